// Taking a profile: from what JavaScript queues and what the streams time to a description in JSON and a table of
// calls.
//
//   JSON   { kinds: [{ name, inputs, outputs, attributes, mask, pattern }], memory: [{ device, peak }], missed }
//          mask, pattern: handles of what attention sees by, which JavaScript has to free; 0 where there is none or it
//          has changed meanwhile
//   table  for each call its kind, its device, four times in microseconds from the start of the profile (queueing and
//          running, begin and end; NaN for what could not be timed) and the bytes of the device's tensors
#include <limits>
#include <sstream>

#include "binding/arguments.h"
#include "binding/profile.h"

namespace fovea {
namespace {

constexpr size_t kColumns = 7;

template <class Items, class Each>
void list(std::ostream& out, const Items& items, Each&& each) {
  const char* before = "";
  out << '[';
  for (const auto& item : items) out << before, each(item), before = ",";
  out << ']';
}

void write_tensor(std::ostream& out, const Profile::Tensor& tensor) {
  out << R"({"name":")" << tensor.name << R"(","shape":)";
  list(out, tensor.shape, [&](int64_t size) { out << size; });
  out << R"(,"dtype":)" << int(tensor.dtype) << R"(,"read":)" << tensor.read << R"(,"written":)" << tensor.written
      << R"(,"bytes":)" << tensor.bytes << '}';
}

void write_kind(std::ostream& out, const Profile::Kind& kind, int32_t mask, int32_t pattern) {
  auto tensors = [&](const std::vector<Profile::Tensor>& list_of) {
    std::vector<const Profile::Tensor*> present;
    for (const Profile::Tensor& tensor : list_of)
      if (tensor.present) present.push_back(&tensor);
    list(out, present, [&](const Profile::Tensor* tensor) { write_tensor(out, *tensor); });
  };
  out << R"({"name":")" << kind.name << R"(","inputs":)";
  tensors(kind.inputs);
  out << R"(,"outputs":)";
  tensors(kind.outputs);
  out << R"(,"attributes":[)";
  const char* before = "";
  for (const Profile::Attribute& attribute : kind.attributes) {
    out << before << R"([")" << attribute.name << R"(",)" << attribute.value << ']';
    before = ",";
  }
  out << R"(],"mask":)" << mask << R"(,"pattern":)" << pattern << '}';
}

// The rows of the table: each stream's timings are in the order of its calls.
void write_calls(const Profile& profile, double* row) {
  struct Cursor {
    const std::deque<Timing>* timings = nullptr;
    size_t at = 0;
  };
  std::vector<Cursor> cursors;
  for (const Profile::Watched& watched : profile.watched()) {
    if (watched.place->number >= cursors.size()) cursors.resize(watched.place->number + 1);
    cursors[watched.place->number].timings = &watched.place->stream().timings();
  }
  auto time = [&](int64_t ns) { return double(ns - profile.started()) / 1e3; };
  for (const Profile::Call& call : profile.calls()) {
    auto& [timings, at] = cursors[call.device];
    while (at < timings->size() && (*timings)[at].position < call.position) at++;
    bool timed = at < timings->size() && (*timings)[at].position == call.position;
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    row[0] = call.kind, row[1] = call.device;
    row[2] = time(call.begin), row[3] = time(call.end);
    row[4] = timed ? time((*timings)[at].begin) : kNone, row[5] = timed ? time((*timings)[at].end) : kNone;
    row[6] = double(call.live);
    row += kColumns;
  }
}

}  // namespace

void Runtime::note_copy(const Stream& stream, const char* name, size_t bytes, int64_t begin, uint64_t position) {
  if (profile_) profile_->note_copy(stream, name, bytes, begin, position);
}

void Runtime::begin_profile(size_t most) {
  refuse_recording("a profile cannot be taken of a part of it; take one of the call");
  if (profile_)
    fail("FOVEA_UNSUPPORTED", "profile: a profile is being taken in this thread; end it before another begins");
  profile_ = std::make_unique<Profile>(most);
  for (auto& place : places_)
    if (place) profile_->watch(*place);
}

void Runtime::stop_profile() {
  if (!profile_) fail("FOVEA_ARGUMENT", "profile: none is being taken; begin one first");
  profile_->stop();
}

napi_value Runtime::take_profile() {
  stop_profile();
  for (const Profile::Watched& watched : profile_->watched()) watched.place->stream().wait(watched.until);
  std::unique_ptr<Profile> profile = std::move(profile_);
  std::byte* data = nullptr;
  size_t numbers = profile->calls().size() * kColumns;
  napi_value buffer = array_buffer(numbers * sizeof(double), &data, "profile");
  write_calls(*profile, reinterpret_cast<double*>(data));
  std::ostringstream out;
  out << R"({"kinds":)";
  list(out, profile->kinds(), [&](const Profile::Kind& kind) {
    write_kind(out, kind, seen_handle(kind.mask, kind.held_at), seen_handle(kind.pattern, kind.held_at));
  });
  out << R"(,"memory":)";
  list(out, profile->watched(), [&](const Profile::Watched& watched) {
    out << R"({"device":)" << int(watched.place->number) << R"(,"peak":)" << watched.peak << '}';
  });
  out << R"(,"missed":)" << profile->missed() << '}';
  napi_value result = nullptr, text = nullptr, table = nullptr;
  std::string json = out.str();
  must(napi_create_array(env_, &result));
  must(napi_create_string_utf8(env_, json.data(), json.size(), &text));
  must(napi_create_typedarray(env_, napi_float64_array, numbers, buffer, 0, &table));
  must(napi_set_element(env_, result, 0, text));
  must(napi_set_element(env_, result, 1, table));
  return result;
}

// A handle of what was held, which nothing frees but JavaScript; 0 where its contents are not those of the first call.
int32_t Runtime::seen_handle(const View& view, uint64_t held_at) {
  if (!view.present()) return 0;
  View whole = view;
  whole.window = 0, whole.grows = 0;
  int32_t handle = view.block->written_at <= held_at ? add_slot(whole, nullptr) : 0;
  view.block->users--;
  release_if_unused(view.block);
  return handle;
}

namespace {

// profileBegin(the most calls to keep)
napi_value profile_begin(Runtime& runtime, Arguments& args) {
  runtime.begin_profile(args.size(0));
  return nullptr;
}
napi_value profile_stop(Runtime& runtime, Arguments&) {
  runtime.stop_profile();
  return nullptr;
}
napi_value profile_take(Runtime& runtime, Arguments&) { return runtime.take_profile(); }

}  // namespace

void export_profiling(Exports& exports) {
  exports.add("profileBegin", entry<profile_begin>);
  exports.add("profileStop", entry<profile_stop>);
  exports.add("profileTake", entry<profile_take>);
}

}  // namespace fovea
