#include "binding/recording.h"

#include <algorithm>

#include "binding/arguments.h"
#include "binding/holds.h"
#include "binding/profile.h"

namespace fovea {
namespace {

constexpr const char* kGrows =
    "what is computed of a tensor that grows from call to call, such as the keys of a cache, must keep its shape; use "
    "it "
    "for attention() alone, or outside of the step";

}  // namespace

// ---- while it is made

Recording::Recording(uint32_t id, std::vector<View> inputs) : id(id), inputs_(std::move(inputs)) {
  for (const View& view : inputs_) {
    own(view.block);
    Use& use = uses_.at(view.block);
    if (!use.held) hold(view.block, use);
  }
}

void Recording::hold(Block* block, Use& use) { block->users++, block->recorded++, use.held = true; }

bool Recording::owns(const Block* block) const {
  auto found = uses_.find(const_cast<Block*>(block));
  return found != uses_.end() && found->second.own;
}

void Recording::use(const View& view, bool written) {
  if (!view.present()) return;
  auto [found, first] = uses_.try_emplace(view.block, Use{false, false, false});
  Use& use = found->second;
  if (first) hold(view.block, use), taken_.push_back(view.block);
  if (!written || use.written) return;
  use.written = true;
  written_.push_back(view.block);
}

void Recording::add_op(Stream& stream, const OpCall& call) {
  bool fits = true;
  windows().grows(call, fits);
  if (!fits) {
    refuse(kGrows);
    fail("FOVEA_UNSUPPORTED", "record: ", call.op.name, ": ", kGrows);
  }
  auto& specs = call.op.rule.inputs();
  for (size_t i = 0; i < call.inputs.size(); i++) use(call.inputs[i], specs[i % specs.size()].written);
  for (const View& view : call.outputs) use(view, true);
  commands_.add_op(stream, call);
}

void Recording::add_clear(Stream& stream, Block* block) {
  View view;
  view.block = block;
  use(view, true);
  commands_.add_clear(stream, block);
}

Block* Recording::take(size_t bytes, uint8_t device) {
  constexpr size_t kSlack = 4096;
  for (auto it = spare_.lower_bound(bytes); it != spare_.end() && it->first <= bytes + bytes / 4 + kSlack; ++it) {
    Block* block = it->second;
    if (block->device != device) continue;
    spare_.erase(it);
    block->size = bytes;
    return block;
  }
  return nullptr;
}

void Recording::finish(std::span<const double> draws) {
  for (auto& [block, use] : uses_)
    if (!use.held) hold(block, use);
  spare_.clear();
  draws_ = draws.size();
  commands_.connect(draws);
}

void Recording::fit_workspaces(const CommandList::Larger& larger) {
  commands_.fit_workspaces([&](const Op& op, Views in, Views out, const void* attrs, size_t bytes) {
    Block* block = larger(op, in, out, attrs, bytes);
    if (block) hold(block, uses_.emplace(block, Use{true, false, false}).first->second);
    return block;
  });
}

bool Recording::stale() const {
  for (const Block* block : taken_)
    if (block->users == block->recorded) return true;
  return false;
}

// ---- those of an environment

void Runtime::refuse_recording(const char* why) {
  if (!recorder_) return;
  recorder_->refuse(why);
  fail("FOVEA_UNSUPPORTED", "record: ", why);
}

uint32_t Runtime::begin_recording(napi_value owner, std::span<const int32_t> inputs) {
  refuse_recording("a recorded step cannot call another one; call what that one was made from");
  std::vector<View> views;
  for (int32_t handle : inputs) views.push_back(slots.at(handle).view);
  napi_ref weak = nullptr;
  if (owner) must(napi_create_reference(env_, owner, 0, &weak));
  recorder_ = std::make_unique<Recording>(next_recording_++, std::move(views));
  recorder_->owner = weak;
  return recorder_->id;
}

Recording& Runtime::recorder(const char* function) {
  if (!recorder_) fail("FOVEA_ARGUMENT", function, ": nothing is being recorded; call recordBegin() first");
  return *recorder_;
}

void Runtime::follow_window(const View& base, View& made) {
  if (recorder_ && base.window && !recorder_->windows().follow(base, made)) refuse_recording(kGrows);
}

void Runtime::end_recording(std::span<const double> draws) {
  recorder("recordEnd");
  paused_ = false;
  slots.forget_windows();
  if (!recorder_->refused().empty()) fail("FOVEA_UNSUPPORTED", "record: ", recorder_->refused());
  recorder_->finish(draws);
  uint32_t id = recorder_->id;
  recordings_.emplace(id, std::move(recorder_));
}

void Runtime::abort_recording() {
  paused_ = false;
  if (!recorder_) return;
  slots.forget_windows();
  std::unique_ptr<Recording> aborted = std::move(recorder_);
  let_go(*aborted);
}

void Runtime::let_go(Recording& recording) {
  recording.drop([this](Block* block) { release_if_unused(block); });
  if (recording.owner) must(napi_delete_reference(env_, recording.owner));
  recording.owner = nullptr;
}

Recording& Runtime::recording(uint32_t id) {
  auto found = recordings_.find(id);
  if (found == recordings_.end())
    fail("FOVEA_DISPOSED", "record: recording ", id, " was disposed; record the step again");
  return *found->second;
}

void Runtime::free_recording(uint32_t id) {
  auto found = recordings_.find(id);
  if (found == recordings_.end()) return;
  std::unique_ptr<Recording> freed = std::move(found->second);
  recordings_.erase(found);
  let_go(*freed);
}

void Runtime::sweep_recordings() {
  std::vector<uint32_t> gone;
  for (auto& [id, recording] : recordings_) {
    if (!recording->owner) continue;
    HandleScope scope(env_);
    napi_value object = nullptr;
    must(napi_get_reference_value(env_, recording->owner, &object));
    if (!object) gone.push_back(id);
  }
  for (uint32_t id : gone) free_recording(id);
}

void Runtime::replay(Recording& again, std::span<const int32_t> inputs, std::span<const double> draws,
                     std::span<const double> numbers) {
  refuse_recording("a recorded step cannot call another one; call what that one was made from");
  std::span<const View> kept = again.inputs();
  if (inputs.size() != kept.size() || draws.size() != again.draws() || numbers.size() != again.numbers())
    fail("FOVEA_ARGUMENT", "replay: the recording takes ", kept.size(), " inputs, ", again.draws(), " counters and ",
         again.numbers(), " numbers, received ", inputs.size(), ", ", draws.size(), " and ", numbers.size());
  for (size_t i = 0; i < kept.size(); i++) {
    const View &from = slots.at(inputs[i]).view, &to = kept[i];
    bool same = from.rank == to.rank && from.dtype == to.dtype && from.block->device == to.block->device;
    for (int d = 0; same && d < to.rank; d++) same = from.shape[d] == to.shape[d];
    if (!same)
      fail("FOVEA_SHAPE", "replay: input ", i, " is ", to_string(from), " of ", name_of(from.dtype),
           ", but the recording takes ", to_string(to), " of ", name_of(to.dtype), " on ",
           place_name(to.block->device));
  }
  again.set(draws, numbers);
  again.fit_workspaces([this](const Op& op, Views in, Views out, const void* attrs, size_t bytes) {
    int32_t first = 0;
    while (!in[first].present()) first++;
    Place& place = *places_[in[first].block->device];
    return workspace_bytes(op, place, in, out, attrs) > bytes ? workspace_for(op, place, in, out, attrs) : nullptr;
  });
  for (size_t i = 0; i < kept.size(); i++) copy_into(kept[i], slots.at(inputs[i]).view);
  CommandList::Queued noted;
  if (profile_)
    noted = [this](const Stream& stream, const OpCall& call, int64_t begin, uint64_t position) {
      profile_->note_op(stream, call, begin, position);
    };
  again.queue([this](const Block* block) { return places_[block->device]->stream().queued(); }, noted);
}

namespace {

template <class Element>
std::span<const Element> elements(const Arguments& args, size_t i, napi_typedarray_type expected, const char* what) {
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  bool typed = false;
  must(napi_is_typedarray(args.env, args.at(i, what), &typed));
  if (!typed) args.refuse(i, what);
  must(napi_get_typedarray_info(args.env, args.values[i], &type, &length, &data, nullptr, nullptr));
  if (type != expected) args.refuse(i, what);
  return {static_cast<const Element*>(data), length};
}
std::span<const int32_t> handles(const Arguments& args, size_t i) {
  return elements<int32_t>(args, i, napi_int32_array, "an Int32Array of handles");
}
std::span<const double> counters(const Arguments& args, size_t i) {
  std::span<const double> list =
      elements<double>(args, i, napi_float64_array, "a Float64Array of seeds and offsets in turn");
  for (double value : list)
    if (!(value >= 0 && value <= 9007199254740992.0)) args.refuse(i, "a Float64Array of whole numbers of at least 0");
  if (list.size() % 2) args.refuse(i, "a Float64Array of seeds and offsets in turn");
  return list;
}
// Whether the view stays inside of its block when its first element moves down by `low` bytes, its last up by `high`.
bool reaches(const View& view, __int128 low, __int128 high) {
  __int128 last = 0;
  for (int i = 0; i < view.rank; i++) last += __int128(view.shape[i] - 1) * view.strides[i];
  __int128 first = view.data - view.block->data, width = int64_t(bytes_of(view.dtype));
  return first + low >= 0 && first + (last + 1) * width + high <= __int128(view.block->size);
}
uint32_t recording_id(const Arguments& args, size_t i) {
  size_t id = args.size(i);
  return id > UINT32_MAX ? 0 : uint32_t(id);  // 0 names no recording
}

// recordBegin(owner, Int32Array of handles) -> id. What is queued until recordEnd or recordAbort is recorded, too.
napi_value record_begin(Runtime& runtime, Arguments& args) {
  napi_value owner = args.owner(0);
  return number(args.env, runtime.begin_recording(owner, handles(args, 1)));
}
// recordEnd(Float64Array of seed, offset, ...)
napi_value record_end(Runtime& runtime, Arguments& args) {
  runtime.end_recording(counters(args, 0));
  return nullptr;
}
// recordVary(op, attribute...): the attributes of the newest op of that name are numbers that replays give
napi_value record_vary(Runtime& runtime, Arguments& args) {
  std::string op = args.text(0, "the name of an op");
  std::vector<std::string> attributes;
  for (size_t i = 1; i < std::min(args.count, Arguments::kMost); i++)
    attributes.push_back(args.text(i, "the name of an attribute"));
  runtime.recorder("recordVary").vary(op, attributes);
  return nullptr;
}
// recordWindow(handle, axis, start, size, grows): replays give where along the axis the view starts, or how long it is
napi_value record_window(Runtime& runtime, Arguments& args) {
  View& view = runtime.slots.at(args.handle(0)).view;
  size_t axis = args.size(1), start = args.size(2), size = args.size(3);
  bool grows = args.boolean(4);
  if (axis >= size_t(view.rank)) args.refuse(1, "one of its ", view.rank, " axes");
  size_t length = size_t(view.shape[axis]);
  if (length > size || start > (grows ? 0 : size - length)) args.refuse(2, "where the view starts within the axis");
  if (view.window || (grows && length < 2)) args.refuse(0, "a view of two positions or more that is no window yet");
  // All that replays may ask for has to lie in the view's block.
  __int128 step = __int128(view.strides[axis]) * int64_t(bytes_of(view.dtype));
  if (step <= 0 || !reaches(view, -step * start, step * (size - length - start)))
    args.refuse(3, "as many positions as lie in the memory of the tensor");
  runtime.recorder("recordWindow").add_window(view, int(axis), {grows, int64_t(start), int64_t(length), int64_t(size)});
  return nullptr;
}
// recordPause(boolean): what is queued while it pauses happens once
napi_value record_pause(Runtime& runtime, Arguments& args) {
  runtime.recorder("recordPause");
  runtime.pause_recording(args.boolean(0));
  return nullptr;
}
napi_value record_abort(Runtime& runtime, Arguments&) {
  runtime.abort_recording();
  return nullptr;
}
// recordStale(id) -> whether a tensor that the recording took from outside is gone
napi_value record_stale(Runtime& runtime, Arguments& args) {
  napi_value result = nullptr;
  must(napi_get_boolean(args.env, runtime.recording(recording_id(args, 0)).stale(), &result));
  return result;
}
// replay(id, Int32Array of handles, Float64Array of seed, offset, ..., Float64Array of numbers)
napi_value replay(Runtime& runtime, Arguments& args) {
  Recording& recording = runtime.recording(recording_id(args, 0));
  runtime.replay(recording, handles(args, 1), counters(args, 2),
                 elements<double>(args, 3, napi_float64_array, "a Float64Array of numbers"));
  return nullptr;
}
napi_value record_free(Runtime& runtime, Arguments& args) {
  runtime.free_recording(recording_id(args, 0));
  return nullptr;
}

}  // namespace

void export_recordings(Exports& exports) {
  exports.add("recordBegin", entry<record_begin>);
  exports.add("recordEnd", entry<record_end>);
  exports.add("recordVary", entry<record_vary>);
  exports.add("recordWindow", entry<record_window>);
  exports.add("recordPause", entry<record_pause>);
  exports.add("recordAbort", entry<record_abort>);
  exports.add("recordFree", entry<record_free>);
  exports.add("recordStale", entry<record_stale>);
  exports.add("replay", entry<replay>);
}

}  // namespace fovea
