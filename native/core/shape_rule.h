// The axes string of an op: shape rule, bounds check, documentation and error text in one line.
//
//   q:b h n d, k:b g m d, v:b g m e, mask?:b~ h~ n~ m~ -> o:b h n e, lse:b h n where h%g
//
//   name            an axis; every tensor that names it must agree on its size
//   name~           the axis, or 1, repeated along it (the kernel sees the full shape with stride 0)
//   3               exactly this size
//   @k              outputs only: the size is the integer attribute k
//   ...  and ...~   all leading axes: equal between the tensors that have them, or broadcast as NumPy does
//   *               alone: any shape, which the kernel checks
//   t?              the input may be left out         t!   the op writes this input in place
//   where h%g       h is a multiple of g
//
// and its type rule:
//
//   T T? bool -> T acc  |  T: float int
//
//   T, U            one dtype, the same wherever the letter stands, out of the set given behind the bar
//   acc             float64 if T is float64, else float32
//   float32, ...    exactly this dtype; bool, int64, ...
//   float int any   a set of dtypes, no relation to others
//   @               outputs only: the dtype is the attribute `dtype`
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/attrs.h"
#include "core/view.h"

namespace fovea {

class ShapeRule {
 public:
  struct Dim {
    int axis;         // -1: a literal or an attribute
    int64_t literal;  // -1: an attribute
    bool broadcasts;
    size_t attr_offset;  // of an int64_t in the attributes
  };
  struct Type {
    enum class Kind : uint8_t { variable, accumulator, fixed, set, attribute } kind = Kind::set;
    int variable = 0;          // index into variables_
    Dtype dtype = Dtype::f32;  // fixed
    DtypeSet set = kAnyType;   // set
    size_t attr_offset = 0;    // attribute
  };
  struct Tensor {
    std::string name;
    bool optional = false, written = false;
    bool leading = false, leading_broadcasts = false, any_shape = false;
    std::vector<Dim> dims;
    Type type;
  };

  ShapeRule(std::string_view op, std::string_view axes, std::string_view types, AttrFields attrs);

  // Checks `inputs` (a view that is not present stands for a missing optional input), turns broadcast inputs into views
  // of the full shape, and sets rank, shape, dtype and contiguous strides of every output.
  void apply(std::span<View> inputs, std::span<View> outputs, const void* attrs) const;

  const std::string& axes() const { return axes_text_; }
  const std::string& types() const { return types_text_; }
  const std::vector<Tensor>& inputs() const { return inputs_; }
  const std::vector<Tensor>& outputs() const { return outputs_; }

 private:
  struct Multiple {
    int of, by;
  };
  struct Variable {
    char letter;
    DtypeSet allowed;
  };
  struct Sizes;  // what is known of every axis while a call is checked

  int axis(const std::string& name, bool may_add);
  std::vector<Tensor> parse_list(std::string_view list, bool are_inputs, AttrFields attrs);
  void parse_types(std::string_view text, AttrFields attrs);
  Type parse_type(const std::string& token, bool is_input, AttrFields attrs);
  void check_types(std::span<const View> inputs, std::span<View> outputs, const void* attrs) const;
  void bind_named(Sizes& sizes, std::span<const View> inputs, size_t i) const;
  void bind_leading(Sizes& sizes, std::span<const View> inputs, size_t i) const;
  void broadcast(const Sizes& sizes, std::span<View> inputs) const;
  [[noreturn]] void mismatch(std::span<const View> inputs, const std::string& what,
                             const char* code = "FOVEA_SHAPE") const;

  std::string op_, axes_text_, types_text_;
  std::vector<std::string> axes_;
  std::vector<Variable> variables_;
  std::vector<Tensor> inputs_, outputs_;
  std::vector<Multiple> multiples_;
};

}  // namespace fovea
