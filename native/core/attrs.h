// Attributes of an op: a trivially copyable struct with defaults, described field by field, so that the binding can
// fill it from JavaScript values and the generator can type it.
//   struct SoftmaxAttrs { double scale = 1;  FOVEA_ATTRS(SoftmaxAttrs, FOVEA_ATTR(SoftmaxAttrs, scale)) };
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/dtype.h"

namespace fovea {

struct AttrField {
  enum class Type : uint8_t { boolean, integer, real, dtype };
  const char* name;
  Type type;
  size_t offset;
};
template <class T>
constexpr AttrField::Type attr_type() {
  static_assert(std::is_same_v<T, bool> || std::is_same_v<T, int64_t> || std::is_same_v<T, double> ||
                std::is_same_v<T, Dtype>);
  if (std::is_same_v<T, bool>) return AttrField::Type::boolean;
  if (std::is_same_v<T, Dtype>) return AttrField::Type::dtype;
  return std::is_same_v<T, int64_t> ? AttrField::Type::integer : AttrField::Type::real;
}
struct AttrFields {
  const AttrField* first;
  int count;
};
#define FOVEA_ATTR(Struct, member)                                                      \
  ::fovea::AttrField {                                                                  \
#member, ::fovea::attr_type < decltype(Struct::member)>(), offsetof(Struct, member) \
  }
#define FOVEA_ATTRS(Struct, ...)                            \
  static ::fovea::AttrFields fields() {                     \
    static const ::fovea::AttrField list[] = {__VA_ARGS__}; \
    return {list, int(sizeof list / sizeof *list)};         \
  }

struct NoAttrs {
  static AttrFields fields() { return {nullptr, 0}; }
};

}  // namespace fovea
