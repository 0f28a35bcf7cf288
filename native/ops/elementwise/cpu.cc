// Elementwise kernels: the table of ops, and those that move or choose values without computing with them.
#include "ops/elementwise/rows.h"

namespace fovea::FOVEA_ISA {
namespace {

// ---- copies and conversions

void copy_into(Call& call, const View& to, const View& from, bool in_place) {
  Walk w = walk_over(to);
  w.in_place = in_place;
  w.add(to), w.add(from);
  run_walk(call, w, {nullptr, {from.dtype, from.dtype, from.dtype}, from.dtype}, nullptr);
}
void copy(Call& call, const NoAttrs&) { copy_into(call, call.out[0], call.in[0], false); }
void cast(Call& call, const CastAttrs&) { copy_into(call, call.out[0], call.in[0], false); }
void copy_(Call& call, const NoAttrs&) { copy_into(call, call.in[0], call.in[1], true); }

// ---- integer powers

void pow(Call& call, const ScalarAttrs& attrs) {
  Dtype t = call.in[0].dtype;
  if (compute_type(t) == Dtype::f32 || t == Dtype::f64) return binary<PowFloat, true>(call, attrs);
  bool scalar_exponent = !call.in[1].present() && !attrs.scalarFirst;
  if (scalar_exponent && attrs.scalar < 0)
    call.fail("FOVEA_ARGUMENT", "integers cannot be raised to the negative power %g; cast the tensor to float32 first",
              attrs.scalar);
  Walk w = binary_walk(call, attrs);
  run_walk(
      call, w,
      same_types(compute_type(t) == Dtype::i64 ? binary_row<PowInt, int64_t> : binary_row<PowInt, int32_t>, nullptr, t),
      &attrs);
}

// ---- truth values

template <int op>
bool logical_row(void* out, const void* const* in, int64_t n, const void*) {
  const uint8_t *a = static_cast<const uint8_t*>(in[0]), *b = static_cast<const uint8_t*>(in[1]);
  uint8_t* c = static_cast<uint8_t*>(out);
  for (int64_t i = 0; i < n; i++) c[i] = op == '&' ? a[i] & b[i] : op == '|' ? a[i] | b[i] : a[i] ^ b[i];
  return true;
}
bool not_row(void* out, const void* const* in, int64_t n, const void*) {
  const uint8_t* x = static_cast<const uint8_t*>(in[0]);
  for (int64_t i = 0; i < n; i++) static_cast<uint8_t*>(out)[i] = x[i] ^ 1;
  return true;
}
constexpr Dtype kBool = Dtype::boolean;
template <int op>
void logical(Call& call, const NoAttrs&) {
  Walk w = walk_over(call.in[0]);
  w.add(call.out[0]), w.add(call.in[0]), w.add(call.in[1]);
  run_walk(call, w, {logical_row<op>, {kBool, kBool, kBool}, kBool}, nullptr);
}
void logical_not(Call& call, const NoAttrs&) {
  Walk w = walk_over(call.in[0]);
  w.add(call.out[0]), w.add(call.in[0]);
  run_walk(call, w, {not_row, {kBool, kBool, kBool}, kBool}, nullptr);
}

// ---- choices: values are moved as bits, so that one instance serves all types of a width

template <class T>
bool where_row(void* out, const void* const* in, int64_t n, const void*) {
  const uint8_t* condition = static_cast<const uint8_t*>(in[0]);
  const T *a = static_cast<const T*>(in[1]), *b = static_cast<const T*>(in[2]);
  T* c = static_cast<T*>(out);
  for (int64_t i = 0; i < n; i++) {
    T x = a[i], y = b[i];  // both read, so that the loop has no branch
    c[i] = condition[i] ? x : y;
  }
  return true;
}
void where(Call& call, const WhereAttrs& attrs) {
  Dtype t = call.out[0].dtype;
  Row row = nullptr;
  dispatch_width(bytes_of(t), [&]<class T>() { row = where_row<T>; });
  Walk w = walk_over(call.out[0]);
  w.add(call.out[0]), w.add(call.in[0]), w.add(call.in[1], attrs.scalarA), w.add(call.in[2], attrs.scalarB);
  run_walk(call, w, {row, {kBool, t, t}, t}, nullptr);
}

// Keeps x[i][j] where j - i <= diagonal (lower) or >= diagonal (upper), zero elsewhere.
void triangle(Call& call, const TriangleAttrs& attrs) {
  const View &x = call.in[0], &y = call.out[0];
  int64_t m = x.dim(-2), n = x.dim(-1), size = y.size();
  if (size == 0) return;
  int64_t rows = size / n, grain = n < kChunk ? kChunk / n : 1;
  call.parallel.for_range(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t i = row % m, from = 0, rest = row, offset = 0;
      for (int axis = x.rank - 2; axis >= 0; axis--)
        offset += rest % x.shape[axis] * x.strides[axis], rest /= x.shape[axis];
      int64_t edge = attrs.diagonal > n ? n : attrs.diagonal < -m ? -m - 1 : attrs.diagonal;
      int64_t cut = i + edge + (attrs.upper ? 0 : 1);  // the first column kept (upper) or zeroed (lower)
      cut = cut < 0 ? 0 : cut > n ? n : cut;
      int64_t to = attrs.upper ? n : cut;
      if (attrs.upper) from = cut;
      dispatch_width(bytes_of(x.dtype), [&]<class T>() {
        T* target = y.as<T>() + row * n;
        __builtin_memset(target, 0, size_t(n) * sizeof(T));
        move_strided(x.as<T>() + offset + from * x.stride(-1), x.stride(-1), target + from, 1, to - from);
      });
    }
  });
}

}  // namespace

#define UNARY(name, F) FOVEA_KERNEL(name, (unary<F, false, NoAttrs>), NoAttrs)
#define FLOAT_UNARY(name, F) FOVEA_KERNEL(name, (unary<F, true, NoAttrs>), NoAttrs)
#define BINARY(name, F) FOVEA_KERNEL(name, (binary<F, false>), ScalarAttrs)
#define FLOAT_BINARY(name, F) FOVEA_KERNEL(name, (binary<F, true>), ScalarAttrs)
#define COMPARE(name, F) FOVEA_KERNEL(name, compare<F>, ScalarAttrs)
#define BACKWARD(name, F, Attrs) FOVEA_KERNEL(name, (backward<F, Attrs>), Attrs)

FOVEA_KERNELS(elementwise, FOVEA_KERNEL("copy", copy, NoAttrs), FOVEA_KERNEL("cast", cast, CastAttrs),
              FOVEA_KERNEL("copy_", copy_, NoAttrs), UNARY("neg", Neg), UNARY("abs", Abs), UNARY("sign", Sign),
              UNARY("square", Square), UNARY("relu", Relu), UNARY("floor", Floor), UNARY("ceil", Ceil),
              UNARY("round", Round), UNARY("trunc", Trunc),
              FOVEA_KERNEL("clamp", (unary<Clamp, false, ClampAttrs>), ClampAttrs), FLOAT_UNARY("exp", Exp),
              FLOAT_UNARY("expm1", Expm1), FLOAT_UNARY("log", Log), FLOAT_UNARY("log1p", Log1p),
              FLOAT_UNARY("log2", Log2), FLOAT_UNARY("sqrt", Sqrt), FLOAT_UNARY("rsqrt", Rsqrt),
              FLOAT_UNARY("reciprocal", Reciprocal), FLOAT_UNARY("sin", Sin), FLOAT_UNARY("cos", Cos),
              FLOAT_UNARY("tanh", Tanh), FLOAT_UNARY("sigmoid", Sigmoid), FLOAT_UNARY("erf", Erf),
              FLOAT_UNARY("gelu", Gelu), FLOAT_UNARY("geluTanh", GeluTanh), FLOAT_UNARY("silu", Silu),
              FOVEA_KERNEL("softplus", (unary<Softplus, true, SoftplusAttrs>), SoftplusAttrs),
              FOVEA_KERNEL("logicalNot", logical_not, NoAttrs), FOVEA_KERNEL("isNan", test<IsNan>, NoAttrs),
              FOVEA_KERNEL("isFinite", test<IsFinite>, NoAttrs), BINARY("add", Add), BINARY("sub", Sub),
              BINARY("mul", Mul), BINARY("maximum", Maximum), BINARY("minimum", Minimum),
              BINARY("remainder", Remainder), BINARY("floorDivide", FloorDivide), FOVEA_KERNEL("pow", pow, ScalarAttrs),
              FLOAT_BINARY("div", Div), FLOAT_BINARY("atan2", Atan2), BINARY("add_", Add), BINARY("sub_", Sub),
              BINARY("mul_", Mul), FLOAT_BINARY("div_", Div), COMPARE("eq", Eq), COMPARE("ne", Ne), COMPARE("lt", Lt),
              COMPARE("le", Le), COMPARE("gt", Gt), COMPARE("ge", Ge),
              FOVEA_KERNEL("logicalAnd", logical<'&'>, NoAttrs), FOVEA_KERNEL("logicalOr", logical<'|'>, NoAttrs),
              FOVEA_KERNEL("logicalXor", logical<'^'>, NoAttrs), FOVEA_KERNEL("where", where, WhereAttrs),
              BACKWARD("geluBackward", GeluBackward, NoAttrs), BACKWARD("geluTanhBackward", GeluTanhBackward, NoAttrs),
              BACKWARD("siluBackward", SiluBackward, NoAttrs), BACKWARD("sigmoidBackward", SigmoidBackward, NoAttrs),
              BACKWARD("tanhBackward", TanhBackward, NoAttrs), BACKWARD("reluBackward", ReluBackward, NoAttrs),
              BACKWARD("softplusBackward", SoftplusBackward, SoftplusAttrs),
              BACKWARD("clampBackward", ClampBackward, ClampAttrs), FOVEA_KERNEL("triangle", triangle, TriangleAttrs))

}  // namespace fovea::FOVEA_ISA
