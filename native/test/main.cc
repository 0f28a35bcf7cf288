// Runs all tests, or those whose names contain one of the arguments. --part=2/4: every fourth of them, from the second
// on; --until-failure: no more after one that failed. Exit status 1 if any failed.
#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "cpu/isa.h"
#include "test/harness.h"

namespace fovea::test {
namespace {

constexpr int64_t kRedZone = 64;
constexpr std::byte kPoison{0xff};
constexpr int kShownFailures = 5;

Test* first_test = nullptr;
int failures = 0;

}  // namespace

Test::Test(const char* name, void (*body)()) : name(name), body(body), next(first_test) { first_test = this; }

void report(const char* file, int line, const std::string& text) {
  if (failures++ < kShownFailures) std::printf("  %s:%d: %s\n", file, line, text.c_str());
}

std::string format(const char* pattern, ...) {
  char text[512];
  va_list list;
  va_start(list, pattern);
  std::vsnprintf(text, sizeof text, pattern, list);
  va_end(list);
  return text;
}

bool close(double value, double expected, double tolerance) {
  if (std::isnan(expected)) return std::isnan(value);
  return value == expected || std::fabs(value - expected) <= tolerance;
}

void Threads::run(int64_t count, Invoke invoke, void* body) {
  std::atomic<int64_t> next{0};
  std::exception_ptr error;
  std::mutex mutex;
  auto work = [&](int thread) {
    for (int64_t chunk; (chunk = next++) < count;) {
      try {
        invoke(body, chunk, thread);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  };
  std::vector<std::thread> workers;
  for (int i = 1; i < threads_; i++) workers.emplace_back(work, i);
  work(0);
  for (std::thread& worker : workers) worker.join();
  if (error) std::rethrow_exception(error);
}

uint64_t Numbers::bits() {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// ---- Tensor

Tensor::Tensor(Dtype dtype, std::vector<int64_t> shape) {
  view.dtype = dtype, view.rank = int(shape.size());
  std::copy(shape.begin(), shape.end(), view.shape);
  view.make_contiguous_strides();
  allocate(0, std::max<int64_t>(view.size() - 1, 0));
}

// Memory for element offsets [low, high].
void Tensor::allocate(int64_t low, int64_t high) {
  int64_t width = int64_t(bytes_of(view.dtype));
  memory_.assign(size_t((high - low + 1) * width + 2 * kRedZone), kPoison);
  view.data = memory_.data() + kRedZone - low * width;
  view.block = reinterpret_cast<Block*>(memory_.data());  // only ever compared with nullptr
}

Tensor Tensor::strided(Dtype dtype, std::vector<int64_t> shape, std::vector<int> order, int64_t step) {
  Tensor t;
  t.view.dtype = dtype, t.view.rank = int(shape.size());
  std::copy(shape.begin(), shape.end(), t.view.shape);
  int64_t stride = step, low = 0, high = 0;
  for (int i = t.view.rank - 1; i >= 0; i--) {
    int axis = order[size_t(i)];
    t.view.strides[axis] = stride;
    int64_t last = stride * std::max<int64_t>(t.view.shape[axis] - 1, 0);
    (last < 0 ? low : high) += last;
    stride *= std::max<int64_t>(t.view.shape[axis], 1);
  }
  t.allocate(low, high);
  return t;
}

Tensor Tensor::expanded(Dtype dtype, std::vector<int64_t> shape, std::vector<bool> repeats) {
  Tensor t;
  t.view.dtype = dtype, t.view.rank = int(shape.size());
  int64_t stride = 1;
  for (int i = t.view.rank - 1; i >= 0; i--) {
    t.view.shape[i] = shape[size_t(i)];
    t.view.strides[i] = repeats[size_t(i)] ? 0 : stride;
    if (!repeats[size_t(i)]) stride *= shape[size_t(i)];
  }
  t.allocate(0, std::max<int64_t>(stride - 1, 0));
  return t;
}

Tensor Tensor::from(Dtype dtype, std::vector<int64_t> shape, const std::vector<double>& values) {
  Tensor t(dtype, std::move(shape));
  t.fill(values);
  return t;
}
Tensor Tensor::random(Dtype dtype, std::vector<int64_t> shape, uint64_t seed, double low, double high) {
  Tensor t(dtype, std::move(shape));
  t.fill_random(seed, low, high);
  return t;
}

int64_t Tensor::offset_of(int64_t i) const {
  int64_t offset = 0;
  for (int axis = view.rank - 1; axis >= 0; axis--) {
    offset += i % view.shape[axis] * view.strides[axis];
    i /= view.shape[axis];
  }
  return offset;
}

template <class T>
static T read(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
template <class T>
static void write(std::byte* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

// float32 from float64 without double rounding for the 16-bit types: round to odd first.
static float to_odd(double value) {
  float rounded = float(value);
  if (std::isnan(value) || double(rounded) == value || (bits_of(rounded) & 1u)) return rounded;
  return std::nextafter(rounded, double(rounded) < value ? INFINITY : -INFINITY);
}

double Tensor::at(int64_t i) const {
  const std::byte* p = bytes(i);
  switch (view.dtype) {
    case Dtype::f32: return read<float>(p);
    case Dtype::f64: return read<double>(p);
    case Dtype::f16: return to_float(read<Half>(p));
    case Dtype::bf16: return to_float(read<Bfloat16>(p));
    case Dtype::i32: return read<int32_t>(p);
    case Dtype::i64: return double(read<int64_t>(p));
    case Dtype::u8:
    case Dtype::boolean: return read<uint8_t>(p);
    case Dtype::i8: return read<int8_t>(p);
  }
  return NAN;
}

void Tensor::set(int64_t i, double value) {
  std::byte* p = const_cast<std::byte*>(bytes(i));
  switch (view.dtype) {
    case Dtype::f32: return write(p, float(value));
    case Dtype::f64: return write(p, value);
    case Dtype::f16: return write(p, to_half(to_odd(value)));
    case Dtype::bf16: return write(p, to_bfloat16(to_odd(value)));
    case Dtype::i32: return write(p, int32_t(value));
    case Dtype::i64: return write(p, int64_t(value));
    case Dtype::u8: return write(p, uint8_t(int64_t(value)));
    case Dtype::i8: return write(p, int8_t(value));
    case Dtype::boolean: return write(p, uint8_t(value != 0));
  }
}

std::vector<double> Tensor::values() const {
  std::vector<double> list(static_cast<size_t>(size()));
  for (size_t i = 0; i < list.size(); i++) list[i] = at(int64_t(i));
  return list;
}
Tensor& Tensor::fill_random(uint64_t seed, double low, double high) {
  Numbers numbers{seed};
  for (int64_t i = 0; i < size(); i++)
    set(i, dtype() == Dtype::boolean ? double(numbers.bits() & 1) : numbers.between(low, high));
  return *this;
}
Tensor& Tensor::fill(const std::vector<double>& values) {
  FOVEA_CHECK(int64_t(values.size()) == size(), "%zu values for %lld elements", values.size(),
              static_cast<long long>(size()));
  for (size_t i = 0; i < values.size(); i++) set(int64_t(i), values[i]);
  return *this;
}

bool Tensor::same_bits(const Tensor& other) const {
  if (dtype() != other.dtype() || size() != other.size()) return false;
  for (int64_t i = 0; i < size(); i++)
    if (std::memcmp(bytes(i), other.bytes(i), bytes_of(dtype())) != 0) return false;
  return true;
}

bool Tensor::intact() const {
  std::vector<bool> element(memory_.size());
  for (int64_t i = 0; i < size(); i++)
    for (size_t b = 0; b < bytes_of(dtype()); b++) element[size_t(bytes(i) - memory_.data()) + b] = true;
  for (size_t i = 0; i < memory_.size(); i++)
    if (!element[i] && memory_[i] != kPoison) return false;
  return true;
}

double round_to(Dtype dtype, double value) {
  Tensor t(dtype, {1});
  t.set(0, value);
  return t.at(0);
}
double epsilon(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64: return 0x1p-52;
    case Dtype::f16: return 0x1p-10;
    case Dtype::bf16: return 0x1p-7;
    default: return 0x1p-23;
  }
}
double ulp(Dtype dtype, double x) {
  int smallest = dtype == Dtype::f64 ? -1022 : dtype == Dtype::f16 ? -14 : -126;
  int exponent = x == 0 || !std::isfinite(x) ? smallest : std::max(std::ilogb(x), smallest);
  return std::ldexp(epsilon(dtype), exponent);
}

// ---- running

Kernel Table::find(const char* name) const {
  for (const KernelEntry* entry = kernels; entry->name; entry++)
    if (std::strcmp(entry->name, name) == 0) return entry->kernel;
  std::printf("no kernel %s for %s\n", name, isa);
  std::exit(1);
}

void run_kernel(const Table& table, const char* name, const void* attrs, const std::vector<Tensor*>& in,
                const std::vector<Tensor*>& out, int threads, size_t workspace_bytes) {
  std::vector<View> inputs, outputs;
  for (Tensor* t : in) inputs.push_back(t ? t->view : View{});
  for (Tensor* t : out) outputs.push_back(t->view);
  std::vector<std::byte> workspace(workspace_bytes + 64, kPoison);
  auto aligned = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(workspace.data()) + 63) / 64 * 64);
  Threads pool(threads);
  Call call{pool, {inputs.data(), int32_t(inputs.size())}, {outputs.data(), int32_t(outputs.size())}, aligned, name};
  table.find(name)(call, attrs);
  for (Tensor* t : in) FOVEA_CHECK(!t || t->intact(), "%s (%s) wrote outside of an input", name, table.isa);
  for (Tensor* t : out) FOVEA_CHECK(t->intact(), "%s (%s) wrote outside of an output", name, table.isa);
}

std::vector<Table> supported(std::initializer_list<Table> tables) {
  std::vector<Table> list;
  for (const Table& table : tables)
    if (machine_supports(table.isa)) list.push_back(table);
  return list;
}

}  // namespace fovea::test

int main(int argc, char** argv) {
  using namespace fovea::test;
  int part = 1, parts = 1;
  bool stops = false;
  std::vector<const char*> names;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--until-failure") == 0) stops = true;
    else if (std::sscanf(argv[i], "--part=%d/%d", &part, &parts) != 2) names.push_back(argv[i]);
  }
  std::vector<Test*> tests;
  for (Test* test = first_test; test; test = test->next) {
    bool wanted = names.empty();
    for (const char* name : names) wanted |= std::strstr(test->name, name) != nullptr;
    if (wanted) tests.push_back(test);
  }
  std::sort(tests.begin(), tests.end(), [](Test* a, Test* b) { return std::strcmp(a->name, b->name) < 0; });
  int failed = 0, ran = 0;
  for (size_t i = size_t(part - 1); i < tests.size() && !(stops && failed); i += size_t(parts)) {
    Test* test = tests[i];
    ran++, failures = 0;
    try {
      test->body();
    } catch (const std::exception& error) { report(test->name, 0, error.what()); }
    std::printf("%s %s\n", failures ? "FAIL" : "ok  ", test->name);
    if (failures) std::printf("  %d checks failed\n", failures), failed++;
    std::fflush(stdout);
  }
  std::printf("%d tests, %d failed\n", ran, failed);
  return failed || !ran;
}
