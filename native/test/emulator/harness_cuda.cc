#include "test/emulator/harness_cuda.h"

#include "cuda/families.h"
#include "cuda/kernel.h"

namespace fovea::test {
namespace {

constexpr size_t kAlignment = 64;
constexpr std::byte kPoison{0xff}, kRed{0xa5};

// Memory of exactly `bytes` bytes with red zones around it, aligned to kAlignment and no better.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : bytes_(bytes), memory_(bytes + 5 * kAlignment, kRed) {
    const auto at = reinterpret_cast<uintptr_t>(memory_.data());
    start_ = 2 * kAlignment - at % (2 * kAlignment) + kAlignment;
    std::fill_n(data(), bytes, kPoison);
  }
  std::byte* data() { return memory_.data() + start_; }
  bool intact() const {
    for (size_t i = 0; i < memory_.size(); i++)
      if ((i < start_ || i >= start_ + bytes_) && memory_[i] != kRed) return false;
    return true;
  }

 private:
  size_t bytes_, start_;
  std::vector<std::byte> memory_;
};

// What launches meet for as long as it lives.
struct Architecture {
  explicit Architecture(int capability) { emulator::set_capability(capability); }
  ~Architecture() { emulator::set_capability(0); }
};

std::string fault_text(const char* message, const Fault& fault) {
  char text[512];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
  std::snprintf(text, sizeof text, message, static_cast<long long>(fault.value[0]),
                static_cast<long long>(fault.value[1]), static_cast<long long>(fault.value[2]));
#pragma GCC diagnostic pop
  return text;
}

}  // namespace

void run_cuda_kernel(const char* name, const void* attrs, const std::vector<Tensor*>& in,
                     const std::vector<Tensor*>& out, int capability, int multiprocessors) {
  const cuda::CudaEntry* entry = cuda::find_cuda_kernel(name);
  if (!entry) throw std::runtime_error(std::string("no CUDA kernel ") + name);
  if (!capability) capability = emulator::capability();
  const cuda::DeviceLimits device = {capability, multiprocessors, emulator::shared_limit_of(capability), 4 << 20};
  const Architecture architecture(capability);

  std::vector<View> inputs, outputs;
  for (Tensor* t : in) inputs.push_back(t ? t->view : View{});
  for (Tensor* t : out) outputs.push_back(t->view);
  const Views in_views{inputs.data(), int32_t(inputs.size())}, out_views{outputs.data(), int32_t(outputs.size())};
  Workspace workspace(entry->workspace ? entry->workspace(in_views, out_views, attrs, device) : 0);
  Fault fault{};
  const char *code = nullptr, *message = nullptr;
  const cuda::CudaCall call{in_views, out_views, workspace.data(), name, device, nullptr, &fault, &code, &message};
  try {
    entry->launch(call, attrs);
  } catch (const Error& error) { throw Error(error.code, std::string(name) + ": " + error.what()); }

  for (Tensor* t : in) FOVEA_CHECK(!t || t->intact(), "%s wrote outside of an input", name);
  for (Tensor* t : out) FOVEA_CHECK(t->intact(), "%s wrote outside of an output", name);
  FOVEA_CHECK(workspace.intact(), "%s wrote outside of its workspace", name);
  if (!fault.raised) return;
  if (!code) throw std::runtime_error(std::string(name) + " raised a fault without may_fail()");
  throw Error(code, std::string(name) + ": " + fault_text(message, fault));
}

}  // namespace fovea::test
