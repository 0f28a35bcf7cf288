// Everything one environment (main thread or worker) owns: devices with their streams and memory, slots, promises.
// Lives in the environment's instance data, never in statics, so that a worker can come and go.
#pragma once
#include <node_api.h>

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "binding/place.h"
#include "binding/promises.h"
#include "binding/slots.h"
#include "binding/status.h"
#include "core/mapped_file.h"

namespace fovea {

class Holds;
class Profile;
class Recording;

class Runtime {
 public:
  explicit Runtime(napi_env env);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  // Throws FOVEA_CLOSING when the environment has no runtime any more.
  static Runtime& of(napi_env env);

  // ---- tensors (queue.cc). `owner`: the JavaScript object that will own the handle, nullptr for none.
  // Queues one op. `inputs` holds op.rule.inputs().size() views per tuple, one tuple unless the op is over_many.
  void run_op(const Op& op, std::span<View> inputs, const void* attrs, std::span<const napi_value> owners,
              int32_t* handles);
  int32_t empty(napi_value owner, View shape, Place& place);
  int32_t upload(napi_value owner, View shape, const void* data);
  int32_t add_view(napi_value owner, const View& view) { return add_slot(view, owner); }
  void free(int32_t handle);

  // A copy on another device (transfers.cc).
  int32_t transfer(napi_value owner, int32_t handle, Place& to);

  // ---- devices
  CpuPlace& cpu() { return static_cast<CpuPlace&>(*places_[0]); }
  // Opens the device where it is not open yet. Throws FOVEA_DEVICE.
  Place& place(size_t number);
  std::span<const std::unique_ptr<Place>> places() const { return places_; }  // those that were not opened are nullptr

  // ---- recordings (recording.cc). `owner`: the JavaScript object whose collection frees the recording.
  uint32_t begin_recording(napi_value owner, std::span<const int32_t> inputs);
  // Throws what the recording refused meanwhile. `draws`: the counters that it took, as in CommandList.
  void end_recording(std::span<const double> draws);
  void abort_recording();
  // The recording that is being made. Throws FOVEA_ARGUMENT where none is.
  Recording& recorder(const char* function);
  // While it pauses, what is queued is not kept, and what is allocated comes from outside.
  void pause_recording(bool paused) { paused_ = paused; }
  // A view of what is a window of the recording that is being made is one, too.
  void follow_window(const View& base, View& made);
  Recording& recording(uint32_t id);
  void replay(Recording& recording, std::span<const int32_t> inputs, std::span<const double> draws,
              std::span<const double> numbers);
  void free_recording(uint32_t id);
  // Throws FOVEA_UNSUPPORTED while a step is recorded, and makes the recording fail if that is caught.
  void refuse_recording(const char* why);

  // ---- profiles (profiling.cc): one at a time, of all that is queued here
  // Keeps up to `most` calls. Throws FOVEA_UNSUPPORTED where a profile is being taken.
  void begin_profile(size_t most);
  // What is queued from here on is none of it.
  void stop_profile();
  // The profile as [JSON, Float64Array], once all streams have passed where it was stopped; waits for that.
  napi_value take_profile();

  // ---- reading (reads.cc)
  napi_value read(int32_t handle);       // a promise of an ArrayBuffer
  napi_value read_now(int32_t handle);   // an ArrayBuffer; waits
  napi_value synchronize(Place& place);  // a promise
  napi_value share(int32_t handle);      // a promise of a token
  napi_value array_buffer(size_t bytes, std::byte** data, const char* what);

  // ---- memory that others own
  int32_t adopt(napi_value owner, const View& shape, std::byte* data, size_t bytes, std::shared_ptr<void> keeps);
  uint32_t add_file(std::shared_ptr<MappedFile> file);
  std::shared_ptr<MappedFile> file(uint32_t id, const char* what);
  void close_file(uint32_t id) { files_.erase(id); }

  // ---- memory pressure
  uint32_t sweep();
  void trim();
  size_t sweeps() const { return sweeps_; }
  size_t swept() const { return swept_; }

  napi_value scratch_array() const;
  void set_error_class(napi_value constructor);
  napi_value error_class() const;

  SlotTable slots;
  Promises promises;
  double* scratch = nullptr;  // a Float64Array shared with JavaScript: shapes and handles without Node-API arrays
  static constexpr int kScratch = 64;
  static constexpr size_t kSweepBytes = 64u << 20;
  // A collection is forced here at first, then at every doubling of what has survived one.
  static constexpr size_t kCollectBytes = size_t(1) << 30;
  // Dropping tiny tensors costs 0.3 us each all-in with this mark, and 1.4 us when half a million slots may pile up
  // first.
  static constexpr size_t kSweepSlots = 16384;

 private:
  friend class Holds;
  enum class Purpose { op, host_writes };
  Block* allocate(size_t bytes, const char* what, Place& place, Purpose purpose = Purpose::op);
  Block* allocate_page_locked(size_t bytes, GpuPlace& gpu);
  // Keeps the block until the stream has passed the position, where its own stream's order does not.
  void hold_until(Stream& stream, uint64_t position, Block* block);
  void drop_passed_holds();
  size_t live_bytes() const;
  void sweep_under_pressure(size_t bytes);
  void account(int64_t bytes);
  void report(int64_t bytes);
  void collect_garbage();
  void release_if_unused(Block* block);
  int32_t add_slot(const View& view, napi_value owner);
  bool interrupted();
  Recording* keeper() const { return paused_ ? nullptr : recorder_.get(); }
  void let_go(Recording& recording);
  void sweep_recordings();

  struct Fitting;
  Place& place_of(const Op& op, std::span<const View> inputs);
  size_t workspace_bytes(const Op& op, Place& place, Views in, Views out, const void* attrs);
  Block* workspace_for(const Op& op, Place& place, Views in, Views out, const void* attrs);
  void fit(const Op& op, std::span<View> inputs, Fitting& fitting);
  void fit_input(const Op& op, std::span<View> tuple, size_t i, Fitting& fitting);
  View dense_copy(const View& from, Layout layout, const char* what, Fitting& fitting);
  // All of `to`, a dense view of the same shape and device, from `from`.
  void copy_into(const View& to, const View& from);
  // The view itself, or a dense copy that `holds` keeps.
  View dense(const View& view, const char* what, Holds& holds);
  // `begin`: when the call began, if a profile is taken; 0: now.
  void enqueue(const Op& op, std::span<const View> inputs, std::span<const View> outputs, const void* attrs,
               Block* workspace, Place& place, int64_t begin = 0);
  // The clock, if somebody wants to know.
  int64_t profile_clock() const { return profile_ ? clock_ns() : 0; }
  void note_copy(const Stream& stream, const char* name, size_t bytes, int64_t begin, uint64_t position);
  int32_t seen_handle(const View& view, uint64_t held_at);
  void queue_read(const View& view, std::byte* destination, std::unique_ptr<Pending> pending);
  // From the dense view of a GPU to the host (transfers.cc). `failure` has to live until the position has passed.
  uint64_t queue_download(const View& view, std::byte* destination, Failure& failure);
  void queue_download(const View& view, std::byte* destination, std::unique_ptr<Pending> pending);
  void to_gpu(const View& from, const View& to, GpuPlace& gpu);
  void from_gpu(const View& from, const View& to, GpuPlace& gpu);
  void stop();

  struct HeldBlock {
    Stream* stream;
    uint64_t position;
    Block* block;
  };

  napi_env env_;
  StreamHooks hooks_;
  std::vector<std::unique_ptr<Place>> places_;
  std::vector<HeldBlock> held_;
  napi_ref scratch_array_ = nullptr, error_class_ = nullptr;
  std::unordered_map<uint32_t, std::shared_ptr<MappedFile>> files_;
  uint32_t next_file_ = 1;
  size_t sweep_at_ = kSweepBytes, sweep_at_slots_ = kSweepSlots, collect_at_ = kCollectBytes;  // high-water marks
  size_t sweeps_ = 0, swept_ = 0;
  std::unordered_map<uint32_t, std::unique_ptr<Recording>> recordings_;
  std::unique_ptr<Recording> recorder_;  // the one that is being made
  bool paused_ = false;
  uint32_t next_recording_ = 1;
  std::unique_ptr<Profile> profile_;       // the one that is being taken
  int64_t unreported_ = 0, reported_ = 0;  // external bytes not yet told to V8, and told
};

// Bytes of a dense tensor of that shape. Throws FOVEA_SHAPE when there are more than can be addressed.
size_t dense_bytes(const View& view, const char* what);

}  // namespace fovea
