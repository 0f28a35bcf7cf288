#include "core/shape_rule.h"

#include <algorithm>
#include <cctype>

#include "core/check.h"

namespace fovea {
namespace {

constexpr int kMaxAxes = 16;

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == separator) parts.emplace_back();
    else parts.back() += c;
  }
  std::erase(parts, std::string());
  return parts;
}
std::string trim(std::string text) {
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text.substr(std::min(text.find_first_not_of(' '), text.size()));
}
size_t attr_offset(std::string_view op, const std::string& name, AttrFields attrs, AttrField::Type type) {
  for (int i = 0; i < attrs.count; i++)
    if (attrs.first[i].name == name && attrs.first[i].type == type) return attrs.first[i].offset;
  fail("FOVEA_INTERNAL", op, ": no attribute ", name, " of the right type");
}
DtypeSet parse_set(std::string_view op, const std::string& word) {
  if (word == "float") return kFloatTypes;
  if (word == "int") return kIntTypes;
  if (word == "any") return kAnyType;
  for (int t = 0; t < kDtypes; t++)
    if (word == kDtypeNames[t]) return set_of(Dtype(t));
  fail("FOVEA_INTERNAL", op, ": unknown dtype ", word);
}
std::string names_of(DtypeSet set) {
  std::string text;
  for (int t = 0; t < kDtypes; t++)
    if (set & set_of(Dtype(t))) text += (text.empty() ? "" : "|") + std::string(kDtypeNames[t]);
  return text;
}

}  // namespace

std::string to_string(const View& v) {
  std::string text = "[";
  for (int i = 0; i < v.rank; i++) text += (i ? "," : "") + std::to_string(v.shape[i]);
  return text + "]";
}

// ---- parsing

ShapeRule::ShapeRule(std::string_view op, std::string_view axes, std::string_view types, AttrFields attrs)
    : op_(op), axes_text_(axes), types_text_(types) {
  auto arrow = axes.find("->"), where = axes.find(" where ");
  if (arrow == axes.npos) fail("FOVEA_INTERNAL", op, ": axes string without ->");
  inputs_ = parse_list(axes.substr(0, arrow), true, attrs);
  outputs_ = parse_list(axes.substr(arrow + 2, where == axes.npos ? where : where - arrow - 2), false, attrs);
  parse_types(types, attrs);
  if (where == axes.npos) return;
  for (auto& clause : split(axes.substr(where + 7), ',')) {
    auto sides = split(trim(clause), '%');
    multiples_.push_back({axis(trim(sides.at(0)), false), axis(trim(sides.at(1)), false)});
  }
}

int ShapeRule::axis(const std::string& name, bool may_add) {
  for (size_t i = 0; i < axes_.size(); i++)
    if (axes_[i] == name) return int(i);
  if (!may_add) fail("FOVEA_INTERNAL", op_, ": axis ", name, " appears in no input");
  if (axes_.size() == kMaxAxes) fail("FOVEA_INTERNAL", op_, ": too many axes");
  axes_.push_back(name);
  return int(axes_.size()) - 1;
}

std::vector<ShapeRule::Tensor> ShapeRule::parse_list(std::string_view list, bool are_inputs, AttrFields attrs) {
  std::vector<Tensor> tensors;
  for (auto& item : split(list, ',')) {
    auto colon = item.find(':');
    if (colon == item.npos) {
      if (trim(item).empty()) continue;
      fail("FOVEA_INTERNAL", op_, ": no colon in '", item, "'");
    }
    Tensor tensor;
    tensor.name = trim(item.substr(0, colon));
    for (; tensor.name.back() == '?' || tensor.name.back() == '!'; tensor.name.pop_back())
      (tensor.name.back() == '?' ? tensor.optional : tensor.written) = true;
    for (auto& token : split(item.substr(colon + 1), ' ')) {
      bool broadcasts = token.back() == '~';
      if (broadcasts) token.pop_back();
      if (token == "*") tensor.any_shape = true;
      else if (token == "...") tensor.leading = true, tensor.leading_broadcasts = broadcasts;
      else if (token[0] == '@')
        tensor.dims.push_back({-1, -1, false, attr_offset(op_, token.substr(1), attrs, AttrField::Type::integer)});
      else if (std::isdigit(token[0])) tensor.dims.push_back({-1, std::stoll(token), false, 0});
      else tensor.dims.push_back({axis(token, are_inputs), 0, broadcasts, 0});
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

ShapeRule::Type ShapeRule::parse_type(const std::string& token, bool is_input, AttrFields attrs) {
  using Kind = Type::Kind;
  Type type;
  if (token == "acc") {
    type.kind = Kind::accumulator;
  } else if (token == "@") {
    if (is_input) fail("FOVEA_INTERNAL", op_, ": an input cannot have the dtype of an attribute");
    type.kind = Kind::attribute, type.attr_offset = attr_offset(op_, "dtype", attrs, AttrField::Type::dtype);
  } else if (token.size() == 1 && std::isupper(token[0])) {
    type.kind = Kind::variable;
    auto found = std::find_if(variables_.begin(), variables_.end(), [&](auto& v) { return v.letter == token[0]; });
    type.variable = int(found - variables_.begin());
    if (found == variables_.end()) variables_.push_back({token[0], 0});
  } else {
    DtypeSet set = parse_set(op_, token);
    bool one = (set & (set - 1)) == 0;
    type.kind = one ? Kind::fixed : Kind::set, type.set = set;
    for (int t = 0; t < kDtypes; t++)
      if (one && set == set_of(Dtype(t))) type.dtype = Dtype(t);
  }
  return type;
}

void ShapeRule::parse_types(std::string_view text, AttrFields attrs) {
  auto arrow = text.find("->"), bar = text.find('|');
  if (arrow == text.npos) fail("FOVEA_INTERNAL", op_, ": type string without ->");
  auto assign = [&](std::string_view part, std::vector<Tensor>& tensors, bool are_inputs) {
    auto tokens = split(part, ' ');
    if (tokens.size() != tensors.size())
      fail("FOVEA_INTERNAL", op_, ": ", tokens.size(), " types for ", tensors.size(), " tensors");
    for (size_t i = 0; i < tokens.size(); i++) tensors[i].type = parse_type(tokens[i], are_inputs, attrs);
  };
  assign(text.substr(0, arrow), inputs_, true);
  assign(text.substr(arrow + 2, bar == text.npos ? bar : bar - arrow - 2), outputs_, false);
  for (auto& clause : bar == text.npos ? std::vector<std::string>{} : split(text.substr(bar + 1), ',')) {
    auto sides = split(clause, ':');
    for (auto& variable : variables_)
      if (trim(sides.at(0))[0] == variable.letter)
        for (auto& word : split(sides.at(1), ' ')) variable.allowed |= parse_set(op_, word);
  }
  for (auto& variable : variables_)
    if (!variable.allowed) fail("FOVEA_INTERNAL", op_, ": no set of dtypes for ", variable.letter);
}

// ---- checking

void ShapeRule::mismatch(std::span<const View> inputs, const std::string& what, const char* code) const {
  bool types = std::string_view(code) == "FOVEA_DTYPE";
  std::string given;
  for (size_t i = 0; i < inputs.size(); i++)
    if (inputs[i].present())
      given += (given.empty() ? "" : ", ") + inputs_[i].name + " " + (types ? name_of(inputs[i].dtype) : "") +
               to_string(inputs[i]);
  fail(code, op_, ": ", what, " (", given, "); expected ", types ? types_text_ : axes_text_,
       types ? "; convert with .to(dtype)" : "");
}

void ShapeRule::check_types(std::span<const View> inputs, std::span<View> outputs, const void* attrs) const {
  using Kind = Type::Kind;
  int first[4] = {-1, -1, -1, -1};  // which input fixed a variable
  auto refuse = [&](size_t i, const std::string& wanted) {
    mismatch(inputs, inputs_[i].name + " is " + name_of(inputs[i].dtype) + ", not " + wanted, "FOVEA_DTYPE");
  };
  for (size_t i = 0; i < inputs.size(); i++) {
    if (!inputs[i].present() || inputs_[i].type.kind != Kind::variable) continue;
    int v = inputs_[i].type.variable;
    if (!(variables_[v].allowed & set_of(inputs[i].dtype))) refuse(i, names_of(variables_[v].allowed));
    if (first[v] < 0) first[v] = int(i);
    else if (inputs[first[v]].dtype != inputs[i].dtype)
      refuse(i, std::string(name_of(inputs[first[v]].dtype)) + " as " + inputs_[first[v]].name + " is");
  }
  Dtype acc = first[0] >= 0 ? accumulator_of(inputs[first[0]].dtype) : Dtype::f32;
  for (size_t i = 0; i < inputs.size(); i++) {
    if (!inputs[i].present()) continue;
    auto& type = inputs_[i].type;
    if (type.kind == Kind::accumulator && inputs[i].dtype != acc) refuse(i, name_of(acc));
    if (type.kind == Kind::fixed && inputs[i].dtype != type.dtype) refuse(i, name_of(type.dtype));
    if (type.kind == Kind::set && !(type.set & set_of(inputs[i].dtype))) refuse(i, names_of(type.set));
  }
  for (size_t o = 0; o < outputs.size(); o++) {
    auto& type = outputs_[o].type;
    if (type.kind == Kind::variable && first[type.variable] < 0)
      mismatch(inputs, "no tensor gives the dtype of " + outputs_[o].name, "FOVEA_DTYPE");
    outputs[o].dtype = type.kind == Kind::variable      ? inputs[first[type.variable]].dtype
                       : type.kind == Kind::accumulator ? acc
                       : type.kind == Kind::attribute
                           ? *reinterpret_cast<const Dtype*>(static_cast<const std::byte*>(attrs) + type.attr_offset)
                           : type.dtype;
  }
}

struct ShapeRule::Sizes {
  int64_t size[kMaxAxes];
  int8_t owner[kMaxAxes];     // which input fixed the size; -1: none yet
  int64_t leading[kMaxRank];  // right-aligned: leading[kMaxRank - 1] is the innermost leading axis
  int leading_rank = -1, leading_owner = -1;
  bool broadcasting = false;
  Sizes() { std::fill_n(owner, kMaxAxes, int8_t(-1)); }
};

void ShapeRule::bind_named(Sizes& s, std::span<const View> inputs, size_t i) const {
  const View& view = inputs[i];
  const Tensor& want = inputs_[i];
  int named = int(want.dims.size()), lead = view.rank - named;
  if (want.leading ? lead < 0 : lead != 0)
    mismatch(inputs, want.name + " has " + std::to_string(view.rank) + " axes, not " +
                         (want.leading ? "at least " : "") + std::to_string(named));
  for (int d = 0; d < named; d++) {
    auto& dim = want.dims[d];
    int64_t n = view.shape[lead + d];
    if (dim.axis < 0) {
      if (n != dim.literal)
        mismatch(inputs, want.name + " needs an axis of " + std::to_string(dim.literal) + ", not " + std::to_string(n));
    } else if (dim.broadcasts && n == 1) {
      s.broadcasting = true;
    } else if (s.owner[dim.axis] < 0) {
      s.size[dim.axis] = n, s.owner[dim.axis] = int8_t(i);
    } else if (s.size[dim.axis] != n) {
      auto& axis = axes_[dim.axis];
      auto& other = inputs_[s.owner[dim.axis]].name;
      mismatch(inputs, want.name + " has " + axis + "=" + std::to_string(n) + " but " + other + " has " + axis + "=" +
                           std::to_string(s.size[dim.axis]));
    }
  }
}

void ShapeRule::bind_leading(Sizes& s, std::span<const View> inputs, size_t i) const {
  const Tensor& want = inputs_[i];
  const int64_t* shape = inputs[i].shape;
  int rank = inputs[i].rank - int(want.dims.size());
  if (s.leading_rank < 0) {
    s.leading_rank = rank, s.leading_owner = int(i);
    std::copy_n(shape, rank, s.leading + kMaxRank - rank);
    return;
  }
  const Tensor& first = inputs_[s.leading_owner];
  bool may_broadcast = want.leading_broadcasts || first.leading_broadcasts;
  if (rank != s.leading_rank) {
    if (rank < s.leading_rank ? !want.leading_broadcasts : !first.leading_broadcasts)
      mismatch(inputs, want.name + " and " + first.name + " differ in rank");
    s.broadcasting = true;
  }
  for (int d = 1; d <= rank; d++) {
    int64_t n = shape[rank - d], &m = s.leading[kMaxRank - d];
    if (d > s.leading_rank) m = n, s.leading_rank = d;
    else if (n == m) continue;
    else if (n == 1 && want.leading_broadcasts) s.broadcasting = true;
    else if (m == 1 && first.leading_broadcasts) m = n, s.broadcasting = true;
    else
      mismatch(inputs, want.name + " and " + first.name + (may_broadcast ? " do not broadcast" : " differ in shape"));
  }
}

// Gives every input the full shape, with stride 0 where it repeats.
void ShapeRule::broadcast(const Sizes& s, std::span<View> inputs) const {
  for (size_t i = 0; i < inputs.size(); i++) {
    View& view = inputs[i];
    const Tensor& want = inputs_[i];
    if (!view.present() || want.any_shape) continue;
    View full = view;
    int named = int(want.dims.size()), had = view.rank - named, lead = want.leading ? std::max(s.leading_rank, 0) : 0;
    full.rank = lead + named;
    if (full.rank > kMaxRank) mismatch(inputs, "more than " + std::to_string(kMaxRank) + " axes");
    for (int d = 0; d < full.rank; d++) {
      int from = d - lead + had;  // the same axis in `view`, or negative where it has none
      int axis = d >= lead ? want.dims[d - lead].axis : -1;
      int64_t n = d < lead                          ? s.leading[kMaxRank - lead + d]
                  : axis >= 0 && s.owner[axis] >= 0 ? s.size[axis]
                                                    : view.shape[from];
      bool repeats = from < 0 || view.shape[from] != n;
      full.shape[d] = n, full.strides[d] = repeats ? 0 : view.strides[from];
      if (repeats && want.written) mismatch(inputs, want.name + " is written in place and cannot be broadcast");
    }
    view = full;
  }
}

void ShapeRule::apply(std::span<View> inputs, std::span<View> outputs, const void* attrs) const {
  Sizes s;
  for (size_t i = 0; i < inputs.size(); i++) {
    if (inputs[i].present()) continue;
    if (!inputs_[i].optional) mismatch(inputs, "input " + inputs_[i].name + " is missing");
  }
  check_types(inputs, outputs, attrs);
  for (size_t i = 0; i < inputs.size(); i++) {
    if (!inputs[i].present() || inputs_[i].any_shape) continue;
    bind_named(s, inputs, i);
    if (inputs_[i].leading) bind_leading(s, inputs, i);
  }
  for (auto [of, by] : multiples_)
    if (s.owner[of] >= 0 && s.owner[by] >= 0 && (s.size[by] == 0 ? s.size[of] != 0 : s.size[of] % s.size[by] != 0))
      mismatch(inputs, axes_[of] + "=" + std::to_string(s.size[of]) + " is not a multiple of " + axes_[by] + "=" +
                           std::to_string(s.size[by]));
  if (s.broadcasting) broadcast(s, inputs);

  for (size_t o = 0; o < outputs.size(); o++) {
    View& view = outputs[o];
    const Tensor& want = outputs_[o];
    int lead = want.leading && s.leading_rank > 0 ? s.leading_rank : 0;
    view.rank = lead + int(want.dims.size());
    if (view.rank > kMaxRank) mismatch(inputs, "more than " + std::to_string(kMaxRank) + " axes");
    std::copy_n(s.leading + kMaxRank - lead, lead, view.shape);
    for (int d = lead; d < view.rank; d++) {
      auto& dim = want.dims[d - lead];
      view.shape[d] = dim.axis >= 0 ? (s.owner[dim.axis] < 0 ? 1 : s.size[dim.axis])
                      : dim.literal >= 0
                          ? dim.literal
                          : *reinterpret_cast<const int64_t*>(static_cast<const std::byte*>(attrs) + dim.attr_offset);
      if (view.shape[d] < 0)
        mismatch(inputs, "the size of axis " + std::to_string(d) + " of " + want.name + " is negative");
    }
    view.make_contiguous_strides();
  }
}

}  // namespace fovea
