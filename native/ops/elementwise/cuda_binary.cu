// Elementwise ops of two operands, of which the second (or the first, with scalarFirst) may be a number.
#include "ops/elementwise/cuda_functions.h"

namespace fovea::cuda {
namespace {

// a op b, or in place: a = a op b.
template <class T, class Out, class F>
void binary_as(const CudaCall& call, const ScalarAttrs& attrs, bool swapped, F f) {
  const View &a = call.in[0], &b = call.in[1], &out = call.out.size() ? call.out[0] : a;
  auto x = input<T>(a), y = input<T>(b, attrs.scalar);
  if (attrs.scalarFirst && !b.present()) swapped = !swapped;
  if (swapped) map<Out>(call, out, f, y, x);
  else map<Out>(call, out, f, x, y);
}

template <class F>
void binary_any(const CudaCall& call, const ScalarAttrs& attrs) {
  dispatch(call.in[0].dtype, [&](auto zero) { binary_as<decltype(zero), decltype(zero)>(call, attrs, false, F{}); });
}
template <class F>
void binary_number(const CudaCall& call, const ScalarAttrs& attrs) {
  F f{};
  if constexpr (std::is_base_of_v<DividesIntegers, F>)
    f.fault = call.may_fail("FOVEA_ARGUMENT", "an integer is divided by zero");
  dispatch_number(call.in[0].dtype,
                  [&](auto zero) { binary_as<decltype(zero), decltype(zero)>(call, attrs, false, f); });
}
template <class F>
void binary_float(const CudaCall& call, const ScalarAttrs& attrs) {
  dispatch_float(call.in[0].dtype,
                 [&](auto zero) { binary_as<decltype(zero), decltype(zero)>(call, attrs, false, F{}); });
}
template <class F, bool swapped = false>
void compare(const CudaCall& call, const ScalarAttrs& attrs) {
  dispatch(call.in[0].dtype, [&](auto zero) { binary_as<decltype(zero), Bool>(call, attrs, swapped, F{}); });
}
void pow(const CudaCall& call, const ScalarAttrs& attrs) {
  Dtype t = call.in[0].dtype;
  bool is_float = (set_of(t) & kFloatTypes) != 0, scalar_exponent = !call.in[1].present() && !attrs.scalarFirst;
  if (!is_float && scalar_exponent && attrs.scalar < 0)
    call.fail("FOVEA_ARGUMENT", "integers cannot be raised to the negative power %g; cast the tensor to float32 first",
              attrs.scalar);
  binary_number<Pow>(call, attrs);
}

}  // namespace

#define ANY(name, F) FOVEA_CUDA_KERNEL(name, binary_any<F>, ScalarAttrs)
#define NUMBER(name, F) FOVEA_CUDA_KERNEL(name, binary_number<F>, ScalarAttrs)
#define REAL(name, F) FOVEA_CUDA_KERNEL(name, binary_float<F>, ScalarAttrs)
#define COMPARE(name, F) FOVEA_CUDA_KERNEL(name, compare<F>, ScalarAttrs)
#define SWAPPED(name, F) FOVEA_CUDA_KERNEL(name, (compare<F, true>), ScalarAttrs)

FOVEA_CUDA_KERNELS(elementwise_binary, ANY("add", Add), NUMBER("sub", Sub), ANY("mul", Mul), ANY("maximum", Maximum),
                   ANY("minimum", Minimum), NUMBER("remainder", Remainder), NUMBER("floorDivide", FloorDivide),
                   FOVEA_CUDA_KERNEL("pow", pow, ScalarAttrs), REAL("div", Div), REAL("atan2", Atan2), ANY("add_", Add),
                   NUMBER("sub_", Sub), ANY("mul_", Mul), REAL("div_", Div), COMPARE("eq", Eq), COMPARE("ne", Ne),
                   COMPARE("lt", Lt), COMPARE("le", Le), SWAPPED("gt", Lt), SWAPPED("ge", Le))

}  // namespace fovea::cuda
