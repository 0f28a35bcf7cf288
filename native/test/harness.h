// The native tests: kernels called directly on hand-made views, without Node, so that they run under sanitizers and
// under qemu. A test file is
//
//   FOVEA_TEST_FAMILY(softmax)                    // declares the family's kernel tables, tables_of_softmax()
//   FOVEA_TEST(softmax_sums_to_one) {
//     for (const Table& table : tables_of_softmax()) {        // one per instruction set that this machine can run
//       Tensor x = Tensor::random(Dtype::f16, {3, 17}, 1), y(Dtype::f16, {3, 17});
//       run(table, "softmax", SoftmaxAttrs{}, {&x}, {&y});
//       FOVEA_CHECK_CLOSE(y.at(0), 0.25, 1e-3);
//     }
//   }
//
// The build defines FOVEA_HAVE_<name> for every instruction set whose kernels are linked. `main` is in main.cc.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/half.h"
#include "core/kernel.h"

namespace fovea::test {

// ---- tests and checks

struct Test {
  const char* name;
  void (*body)();
  Test* next;
  Test(const char* name, void (*body)());
};
#define FOVEA_TEST(name)                                             \
  static void test_##name();                                         \
  static ::fovea::test::Test registered_##name(#name, &test_##name); \
  static void test_##name()

// The code of the Error that `body` throws, or "none".
template <class Body>
std::string code_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) { return error.code; }
  return "none";
}

// Prints the first few failures of a test and counts all.
void report(const char* file, int line, const std::string& text);
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

#define FOVEA_CHECK(condition, ...)                                                                                    \
  do {                                                                                                                 \
    if (!(condition)) ::fovea::test::report(__FILE__, __LINE__, #condition ": " + ::fovea::test::format(__VA_ARGS__)); \
  } while (0)
// |value - expected| <= tolerance; NaN equals NaN, infinities equal themselves.
bool close(double value, double expected, double tolerance);
#define FOVEA_CHECK_CLOSE(value, expected, tolerance)                                                            \
  do {                                                                                                           \
    double value_ = (value), expected_ = (expected), tolerance_ = (tolerance);                                   \
    if (!::fovea::test::close(value_, expected_, tolerance_))                                                    \
      ::fovea::test::report(                                                                                     \
          __FILE__, __LINE__,                                                                                    \
          ::fovea::test::format(#value " is %.17g, expected %.17g within %.3g", value_, expected_, tolerance_)); \
  } while (0)

// ---- threads

// Runs every chunk on `threads` real threads, chunk after chunk from one counter, as the product's pool does.
class Threads final : public Parallel {
 public:
  explicit Threads(int threads) : Parallel(threads) {}
  bool cancelled() const override { return false; }

 protected:
  void run(int64_t count, Invoke invoke, void* body) override;
};

// ---- tensors

// Small deterministic generator for test data: splitmix64.
struct Numbers {
  uint64_t state;
  uint64_t bits();
  double uniform() { return double(bits() >> 11) * 0x1p-53; }  // [0, 1)
  double between(double low, double high) { return low + (high - low) * uniform(); }
};

// Owns its memory. Everything that is not an element (64 bytes before and after, and gaps between strided elements)
// is filled with 0xff bytes, which is NaN or -1 if a kernel reads it, and intact() tells whether a kernel wrote there.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Tensor&&) = default;  // a copy's view would still be of the other's memory
  Tensor& operator=(Tensor&&) = default;
  // Dense and row-major; elements start as 0xff bytes, too.
  Tensor(Dtype dtype, std::vector<int64_t> shape);
  // Axis order[rank - 1] varies fastest in memory, and elements are `step` apart: {1, 0} is a transposed matrix,
  // step 2 leaves a gap after each element; a negative step runs backwards through memory.
  static Tensor strided(Dtype dtype, std::vector<int64_t> shape, std::vector<int> order, int64_t step = 1);
  // Axes that `repeats` marks have stride 0.
  static Tensor expanded(Dtype dtype, std::vector<int64_t> shape, std::vector<bool> repeats);
  static Tensor from(Dtype dtype, std::vector<int64_t> shape, const std::vector<double>& values);
  static Tensor random(Dtype dtype, std::vector<int64_t> shape, uint64_t seed, double low = -2, double high = 2);

  View view;
  int64_t size() const { return view.size(); }
  Dtype dtype() const { return view.dtype; }
  // Elements by their row-major number, whatever the strides. Values are rounded to the dtype.
  double at(int64_t i) const;
  void set(int64_t i, double value);
  std::vector<double> values() const;
  Tensor& fill_random(uint64_t seed, double low = -2, double high = 2);
  Tensor& fill(const std::vector<double>& values);
  // The bytes of element i, for bit-exact comparisons.
  const std::byte* bytes(int64_t i) const { return view.data + offset_of(i) * int64_t(kDtypeBytes[int(view.dtype)]); }
  bool same_bits(const Tensor& other) const;
  bool intact() const;

 private:
  int64_t offset_of(int64_t i) const;
  void allocate(int64_t low, int64_t high);
  std::vector<std::byte> memory_;
};

double round_to(Dtype dtype, double value);
// Half the distance between neighbouring values of the dtype at |x|, times two: one unit in the last place.
double ulp(Dtype dtype, double x);
double epsilon(Dtype dtype);
constexpr Dtype kFloats[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16};
constexpr Dtype kInts[] = {Dtype::i32, Dtype::i64, Dtype::u8, Dtype::i8};
constexpr Dtype kAll[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16,   Dtype::i32,
                          Dtype::i64, Dtype::u8,  Dtype::i8,  Dtype::boolean};

// ---- running kernels

struct Table {
  const char* isa;
  const KernelEntry* kernels;
  Kernel find(const char* name) const;  // ends the process if there is none
};

// Rows and the elements of each.
using Shapes = std::vector<std::pair<int64_t, int64_t>>;

// nullptr stands for an optional input that is not given. Checks red zones of all tensors afterwards.
void run_kernel(const Table& table, const char* name, const void* attrs, const std::vector<Tensor*>& in,
                const std::vector<Tensor*>& out, int threads, size_t workspace_bytes);
template <class Attrs>
void run(const Table& table, const char* name, const Attrs& attrs, const std::vector<Tensor*>& in,
         const std::vector<Tensor*>& out, int threads = 2, size_t workspace_bytes = 0) {
  run_kernel(table, name, &attrs, in, out, threads, workspace_bytes);
}
// What the checks of test/*_model.h, which the emulated devices share, call as run(name, attrs, inputs, outputs).
struct RunOn {
  const Table& table;
  int threads = 2;
  size_t workspace_bytes = 0;
  template <class Attrs>
  void operator()(const char* name, const Attrs& attrs, const std::vector<Tensor*>& in,
                  const std::vector<Tensor*>& out) const {
    run(table, name, attrs, in, out, threads, workspace_bytes);
  }
  std::string where() const { return table.isa; }
};
// The code of the Error that the kernel throws, or "" if it throws none.
template <class Attrs>
std::string error_of(const Table& table, const char* name, const Attrs& attrs, const std::vector<Tensor*>& in,
                     const std::vector<Tensor*>& out, size_t workspace_bytes = 0) {
  try {
    run(table, name, attrs, in, out, 2, workspace_bytes);
  } catch (const Error& error) { return error.code; }
  return "";
}

// ---- kernel tables of a family, of the instruction sets that are linked and that this machine supports

std::vector<Table> supported(std::initializer_list<Table> tables);

#ifdef FOVEA_HAVE_baseline
#define FOVEA_TEST_BASELINE(F, family) F(baseline, family)
#else
#define FOVEA_TEST_BASELINE(F, family)
#endif
#ifdef FOVEA_HAVE_avx2
#define FOVEA_TEST_AVX2(F, family) F(avx2, family)
#else
#define FOVEA_TEST_AVX2(F, family)
#endif
#ifdef FOVEA_HAVE_avx512
#define FOVEA_TEST_AVX512(F, family) F(avx512, family)
#else
#define FOVEA_TEST_AVX512(F, family)
#endif
#ifdef FOVEA_HAVE_avx512bf16
#define FOVEA_TEST_AVX512BF16(F, family) F(avx512bf16, family)
#else
#define FOVEA_TEST_AVX512BF16(F, family)
#endif
#ifdef FOVEA_HAVE_amx
#define FOVEA_TEST_AMX(F, family) F(amx, family)
#else
#define FOVEA_TEST_AMX(F, family)
#endif
#ifdef FOVEA_HAVE_neon
#define FOVEA_TEST_NEON(F, family) F(neon, family)
#else
#define FOVEA_TEST_NEON(F, family)
#endif
#ifdef FOVEA_HAVE_neonbf16
#define FOVEA_TEST_NEONBF16(F, family) F(neonbf16, family)
#else
#define FOVEA_TEST_NEONBF16(F, family)
#endif
#define FOVEA_TEST_ISAS(F, family) \
  FOVEA_TEST_BASELINE(F, family)   \
  FOVEA_TEST_AVX2(F, family)       \
  FOVEA_TEST_AVX512(F, family)     \
  FOVEA_TEST_AVX512BF16(F, family) FOVEA_TEST_NEON(F, family) FOVEA_TEST_NEONBF16(F, family)
#define FOVEA_TEST_DECLARE(isa, family)          \
  namespace fovea::isa_##isa {                   \
    extern const KernelEntry family##_kernels[]; \
  }
#define FOVEA_TEST_ROW(isa, family) {#isa, ::fovea::isa_##isa::family##_kernels},
#define FOVEA_TEST_TABLES(isas, family)                                                                               \
  isas(FOVEA_TEST_DECLARE, family) static const std::vector<::fovea::test::Table>& tables_of_##family() {             \
    static const std::vector<::fovea::test::Table> tables = ::fovea::test::supported({isas(FOVEA_TEST_ROW, family)}); \
    return tables;                                                                                                    \
  }
#define FOVEA_TEST_FAMILY(family) FOVEA_TEST_TABLES(FOVEA_TEST_ISAS, family)
// A family that has kernels of its own for AMX.
#define FOVEA_TEST_ISAS_AND_AMX(F, family) FOVEA_TEST_ISAS(F, family) FOVEA_TEST_AMX(F, family)
#define FOVEA_TEST_FAMILY_WITH_AMX(family) FOVEA_TEST_TABLES(FOVEA_TEST_ISAS_AND_AMX, family)

}  // namespace fovea::test
