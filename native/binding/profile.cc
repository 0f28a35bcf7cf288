#include "binding/profile.h"

#include <cstring>
#include <type_traits>

#include "binding/place.h"

namespace fovea {
namespace {

constexpr size_t kMostHeld = 64u << 20;

// Bytes that keep calls of different kinds apart.
class Key {
 public:
  template <class T>
  void add(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void add(const View& view) {
    add(view.present());
    if (!view.present()) return;
    add(view.dtype), add(view.rank);
    for (int i = 0; i < view.rank; i++) add(view.shape[i]), add(view.strides[i] == 0);
  }
  std::string text() && { return std::move(text_); }

 private:
  std::string text_;
};

// Whether the attribute is of the kind, and not of the single call.
bool describes(const AttrField& field) {
  return field.type != AttrField::Type::real && std::strcmp(field.name, "seed") != 0 &&
         std::strcmp(field.name, "offset") != 0;
}

int64_t value_of(const AttrField& field, const void* attrs) {
  const auto* at = static_cast<const std::byte*>(attrs) + field.offset;
  switch (field.type) {
    case AttrField::Type::boolean: return *reinterpret_cast<const bool*>(at);
    case AttrField::Type::dtype: return int64_t(*reinterpret_cast<const Dtype*>(at));
    default: {
      int64_t value = 0;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
  }
}

template <class Body>
void each_attribute(const OpCall& call, Body&& body) {
  for (int i = 0; call.attrs && i < call.op.attrs.count; i++)
    if (const AttrField& field = call.op.attrs.first[i]; describes(field))
      body(field.name, value_of(field, call.attrs));
}

Profile::Tensor describe(const ShapeRule::Tensor& spec, const View& view) {
  Profile::Tensor tensor{spec.name.c_str(), {}, view.dtype, view.present(), false, false, 0};
  if (!view.present()) return tensor;
  tensor.shape.assign(view.shape, view.shape + view.rank);
  tensor.bytes = bytes_of(view.dtype);
  for (int i = 0; i < view.rank; i++)
    if (view.strides[i] != 0 || view.shape[i] == 0) tensor.bytes *= size_t(view.shape[i]);
  return tensor;
}

// The input of that name of attention, which says what is seen.
const View* seen_by(const OpCall& call, const char* name) {
  auto& specs = call.op.rule.inputs();
  if (call.op.name.rfind("attention", 0) != 0 || specs[0].name != "q") return nullptr;
  for (size_t i = 0; i < specs.size(); i++)
    if (specs[i].name == name && call.inputs[i].present()) return &call.inputs[i];
  return nullptr;
}

std::string key_of(const OpCall& call) {
  Key key;
  key.add(call.op.number);
  for (const View& view : call.inputs) key.add(view);
  for (const View& view : call.outputs) key.add(view);
  each_attribute(call, [&](const char*, int64_t value) { key.add(value); });
  for (const char* name : {"mask", "pattern"})
    if (const View* view = seen_by(call, name)) key.add(view->data);
  return std::move(key).text();
}

Profile::Kind kind_of(const OpCall& call, uint64_t position) {
  const Op& op = call.op;
  Profile::Kind kind{op.name, {}, {}, {}, {}, {}, position};
  auto& specs = op.rule.inputs();
  for (size_t i = 0; i < call.inputs.size(); i++) {
    const ShapeRule::Tensor& spec = specs[i % specs.size()];
    kind.inputs.push_back(describe(spec, call.inputs[i]));
    kind.inputs.back().written = spec.written;
    kind.inputs.back().read = !(spec.written && op.overwrites);
  }
  for (size_t i = 0; i < call.outputs.size(); i++) {
    kind.outputs.push_back(describe(op.rule.outputs()[i % op.rule.outputs().size()], call.outputs[i]));
    kind.outputs.back().written = true;
  }
  each_attribute(call, [&](const char* name, int64_t value) { kind.attributes.push_back({name, value}); });
  if (const View* view = seen_by(call, "mask")) kind.mask = *view;
  if (const View* view = seen_by(call, "pattern")) kind.pattern = *view;
  return kind;
}

}  // namespace

void Profile::watch(Place& place) {
  Stream& stream = place.stream();
  watched_.push_back({&place, 0, 0, place.allocator().peak_bytes()});
  place.allocator().reset_peak();
  stream.start_timing();
}

void Profile::stop() {
  if (stopped_) return;
  stopped_ = true;
  for (Watched& watched : watched_) {
    watched.until = watched.place->stream().stop_timing();
    watched.peak = watched.place->allocator().peak_bytes();
    watched.place->allocator().raise_peak(watched.peak_before);
  }
}

Profile::Watched& Profile::watched(const Stream& stream) {
  size_t i = 0;
  while (&watched_[i].place->stream() != &stream) i++;
  return watched_[i];
}

// Other tensors may want the memory: what is seen of some calls is then not known.
void Profile::hold(View& view) {
  if (!view.present()) return;
  if (held_ + view.block->bytes > kMostHeld) {
    view = {};
    return;
  }
  held_ += view.block->bytes;
  view.block->users++;
}

// What there is no memory for is missed: the op itself has been queued.
template <class Make>
void Profile::note(const Stream& stream, std::string key, int64_t begin, uint64_t position, Make&& make) noexcept {
  int64_t end = clock_ns();
  if (calls_.size() >= most_) return void(missed_++);
  try {
    auto found = kind_of_.find(key);
    if (found == kind_of_.end()) {
      kinds_.push_back(make());
      for (View* view : {&kinds_.back().mask, &kinds_.back().pattern}) hold(*view);
      found = kind_of_.emplace(std::move(key), uint32_t(kinds_.size() - 1)).first;
    }
    Place& place = *watched(stream).place;
    calls_.push_back({found->second, place.number, position, begin, end, place.allocator().live_bytes()});
  } catch (const std::bad_alloc&) { missed_++; }
}

void Profile::note_op(const Stream& stream, const OpCall& call, int64_t begin, uint64_t position) noexcept {
  if (stopped_) return;
  try {
    note(stream, key_of(call), begin, position, [&] { return fovea::kind_of(call, position); });
  } catch (const std::bad_alloc&) { missed_++; }
}

void Profile::note_copy(const Stream& stream, const char* name, size_t bytes, int64_t begin,
                        uint64_t position) noexcept {
  if (stopped_) return;
  auto make = [&] {
    Tensor tensor{"x", {int64_t(bytes)}, Dtype::u8, true, true, false, bytes};
    Kind kind{name, {tensor}, {tensor}, {}, {}, {}, position};
    kind.outputs[0].name = "y", kind.outputs[0].read = false, kind.outputs[0].written = true;
    return kind;
  };
  try {
    note(stream, name + std::to_string(bytes), begin, position, make);
  } catch (const std::bad_alloc&) { missed_++; }
}

}  // namespace fovea
