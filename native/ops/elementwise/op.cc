// Elementwise ops: y[i] = f(x[i]) or f(a[i], b[i]). TypeScript brings operands to one dtype first; broadcasting arrives
// as stride 0.
#include "core/registry.h"
#include "ops/elementwise/attrs.h"
#include "ops/families.h"

namespace fovea {
namespace {

constexpr const char* kUnary = "x:... -> y:...";
constexpr const char* kBinary = "a:...~, b?:...~ -> c:...";
constexpr const char* kBinaryInPlace = "a!:..., b?:...~ ->";
constexpr const char* kFloatUnary = "T -> T | T: float";
constexpr const char* kNumberUnary = "T -> T | T: float int";

}  // namespace

void declare_elementwise(Registry& r) {
  r.add("copy", kUnary, "T -> T | T: any");
  r.add<CastAttrs>("cast", kUnary, "any -> @");
  r.add("copy_", "y!:..., x:...~ ->", "any any ->").overwriting();  // converts to the dtype of y

  for (const char* name : {"neg", "abs", "sign", "square", "relu", "floor", "ceil", "round", "trunc"})
    r.add(name, kUnary, kNumberUnary);
  for (const char* name : {"exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh",
                           "sigmoid", "erf", "gelu", "geluTanh", "silu"})
    r.add(name, kUnary, kFloatUnary);
  r.add<SoftplusAttrs>("softplus", kUnary, kFloatUnary);
  r.add<ClampAttrs>("clamp", kUnary, kNumberUnary);
  r.add("logicalNot", kUnary, "any -> bool");
  r.add("isNan", kUnary, "any -> bool");
  r.add("isFinite", kUnary, "any -> bool");

  for (const char* name : {"add", "mul", "maximum", "minimum"})
    r.add<ScalarAttrs>(name, kBinary, "T T -> T | T: any");  // bool: or, and
  for (const char* name : {"sub", "pow", "remainder", "floorDivide"})
    r.add<ScalarAttrs>(name, kBinary, "T T -> T | T: float int");
  r.add<ScalarAttrs>("div", kBinary, "T T -> T | T: float");
  r.add<ScalarAttrs>("atan2", kBinary, "T T -> T | T: float");
  for (const char* name : {"add_", "mul_"}) r.add<ScalarAttrs>(name, kBinaryInPlace, "T T -> | T: any");
  r.add<ScalarAttrs>("sub_", kBinaryInPlace, "T T -> | T: float int");
  r.add<ScalarAttrs>("div_", kBinaryInPlace, "T T -> | T: float");
  for (const char* name : {"eq", "ne", "lt", "le", "gt", "ge"})
    r.add<ScalarAttrs>(name, kBinary, "T T -> bool | T: any");
  for (const char* name : {"logicalAnd", "logicalOr", "logicalXor"})
    r.add(name, "a:...~, b:...~ -> c:...", "any any -> bool");
  r.add<WhereAttrs>("where", "condition:...~, a?:...~, b?:...~ -> c:...", "bool T T -> T | T: any");

  // dy times the derivative at x (or expressed through the result y)
  for (const char* name : {"geluBackward", "geluTanhBackward", "siluBackward"})
    r.add(name, "x:..., dy:... -> dx:...", "T T -> T | T: float");
  for (const char* name : {"sigmoidBackward", "tanhBackward", "reluBackward"})
    r.add(name, "y:..., dy:... -> dx:...", "T T -> T | T: float");
  r.add<SoftplusAttrs>("softplusBackward", "x:..., dy:... -> dx:...", "T T -> T | T: float");
  r.add<ClampAttrs>("clampBackward", "x:..., dy:... -> dx:...", "T T -> T | T: float");

  r.add<TriangleAttrs>("triangle", "x:... m n -> y:... m n",
                       "T -> T | T: any");  // zero above (lower) or below (upper) the diagonal
}

}  // namespace fovea
