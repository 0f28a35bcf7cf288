// Life of an environment, its slots, and what it does when memory gets short.
#include "binding/runtime.h"

#include <algorithm>
#include <limits>

#include "binding/holds.h"
#include "binding/profile.h"
#include "binding/recording.h"
#include "core/budget.h"

namespace fovea {
namespace {

constexpr int64_t kReportStep = 1 << 20;

}  // namespace

// ---- errors

napi_value make_error(napi_env env, const char* code, const std::string& message) {
  napi_value arguments[2] = {nullptr, nullptr}, error = nullptr;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &arguments[0]) != napi_ok) return nullptr;
  if (napi_create_string_utf8(env, message.data(), message.size(), &arguments[1]) != napi_ok) return nullptr;
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  napi_value constructor = data ? static_cast<Runtime*>(data)->error_class() : nullptr;
  if (constructor && napi_new_instance(env, constructor, 2, arguments, &error) == napi_ok) return error;
  bool pending = false;
  napi_value ignored = nullptr;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending) napi_get_and_clear_last_exception(env, &ignored);
  if (napi_create_error(env, arguments[0], arguments[1], &error) != napi_ok) return nullptr;
  return error;
}

napi_value throw_error(napi_env env, const char* code, const std::string& message) {
  if (napi_value error = make_error(env, code, message)) napi_throw(env, error);
  return nullptr;
}

size_t dense_bytes(const View& view, const char* what) {
  constexpr size_t kMost = size_t(1) << 48;  // beyond any address space
  size_t bytes = bytes_of(view.dtype);
  for (int i = 0; i < view.rank; i++)
    if (view.shape[i] == 0) return 0;
  for (int i = 0; i < view.rank; i++)
    if (__builtin_mul_overflow(bytes, size_t(view.shape[i]), &bytes) || bytes > kMost)
      fail("FOVEA_SHAPE", what, ": ", to_string(view), " has more elements than memory can hold; use a smaller shape");
  return bytes;
}

// ---- life

Runtime::Runtime(napi_env env)
    : promises(env), env_(env), hooks_{[this] { promises.signal(); }, [this] { return interrupted(); }} {
  places_.push_back(std::make_unique<CpuPlace>(hooks_));
  napi_value buffer = nullptr, array = nullptr;
  must(napi_create_arraybuffer(env, kScratch * sizeof(double), reinterpret_cast<void**>(&scratch), &buffer));
  must(napi_create_typedarray(env, napi_float64_array, kScratch, buffer, 0, &array));
  must(napi_create_reference(env, array, 1, &scratch_array_));
  // Hooks run last in, first out, and the thread-safe function of `promises` has one of its own. Registered after it,
  // ours runs before it: no stream thread is left that could call a closed function.
  must(napi_add_env_cleanup_hook(
      env, [](void* self) { delete static_cast<Runtime*>(self); }, this));
}

Runtime::~Runtime() {
  stop();
  promises.close();
  // Nobody is left to hear of a failure: the environment is going.
  napi_set_instance_data(env_, nullptr, nullptr, nullptr);
}

// All are told before any is waited for, since one may be waiting for another.
void Runtime::stop() {
  for (auto& place : places_)
    if (place) place->stream().request_stop();
  for (auto& place : places_)
    if (place) place->stream().join();
}

Place& Runtime::place(size_t number) {
  if (number >= GpuPlace::kPageLocked)
    fail("FOVEA_DEVICE", "cuda: there is no device ", place_name(uint8_t(number)), "; see devices()");
  if (number >= places_.size()) places_.resize(number + 1);
  if (!places_[number]) {
    places_[number] = std::make_unique<GpuPlace>(uint8_t(number), hooks_);
    if (profile_) profile_->watch(*places_[number]);
  }
  return *places_[number];
}

Runtime& Runtime::of(napi_env env) {
  void* data = nullptr;
  must(napi_get_instance_data(env, &data));
  if (!data) fail("FOVEA_CLOSING", "fovea: this thread is shutting down; start no further work in it");
  return *static_cast<Runtime*>(data);
}

napi_value Runtime::scratch_array() const {
  napi_value value = nullptr;
  must(napi_get_reference_value(env_, scratch_array_, &value));
  return value;
}

void Runtime::set_error_class(napi_value constructor) {
  if (error_class_) must(napi_delete_reference(env_, error_class_));
  error_class_ = nullptr;
  must(napi_create_reference(env_, constructor, 1, &error_class_));
}

napi_value Runtime::error_class() const {
  napi_value value = nullptr;
  return error_class_ && napi_get_reference_value(env_, error_class_, &value) == napi_ok ? value : nullptr;
}

// A dead worker cannot be noticed from inside a wait, except by asking V8 to run something.
bool Runtime::interrupted() {
  napi_handle_scope scope = nullptr;
  if (napi_open_handle_scope(env_, &scope) != napi_ok) return true;
  napi_value source = nullptr, result = nullptr;
  bool alive =
      napi_create_string_utf8(env_, "0", 1, &source) == napi_ok && napi_run_script(env_, source, &result) == napi_ok;
  napi_close_handle_scope(env_, scope);
  return !alive;
}

// ---- slots

// The caller holds the block (Holds), so that it is released if there is no slot for it.
int32_t Runtime::add_slot(const View& view, napi_value owner) {
  if (slots.full()) sweep();
  if (slots.full())
    fail("FOVEA_TOO_MANY_TENSORS", "tensor: ", SlotTable::kMaxSlots,
         " tensors are live, which is the most there can be; use tidy() or dispose()");
  napi_ref weak = nullptr;
  if (owner) must(napi_create_reference(env_, owner, 0, &weak));
  return slots.add(view, weak);
}

void Runtime::free(int32_t handle) {
  napi_ref owner = slots.at(handle).owner;
  Block* block = slots.remove(handle);
  release_if_unused(block);
  if (owner) must(napi_delete_reference(env_, owner));
}

void Runtime::release_if_unused(Block* block) {
  if (block->users > 0) return;
  if (recorder_ && recorder_->owns(block)) return recorder_->put_back(block);
  if (block->device & GpuPlace::kPageLocked) {
    auto& gpu = static_cast<GpuPlace&>(*places_[block->device & ~GpuPlace::kPageLocked]);
    return gpu.page_locked().release(block, 0);  // held until every stream that uses it had passed
  }
  if (block->size_class != Block::kExternal) account(-int64_t(block->bytes));
  Place& place = *places_[block->device];
  place.allocator().release(block, place.stream().queued());
}

// ---- blocks that one stream uses in another one's order

void Runtime::hold_until(Stream& stream, uint64_t position, Block* block) {
  block->users++;
  held_.push_back({&stream, position, block});
}

void Runtime::drop_passed_holds() {
  std::erase_if(held_, [this](const HeldBlock& held) {
    if (held.stream->done() < held.position) return false;
    held.block->users--;
    release_if_unused(held.block);
    return true;
  });
}

// ---- memory pressure

// V8 only collects what it believes to be large. But a report of growth may start a collection at once, whose threads
// take the processors from the kernels, and memory that every op takes and gives back is no growth: reported each time,
// exp of 64 MB took 5.5 ms instead of 2.6, at one mark-compact every other op; and every step of training takes its
// activations and gives them back. So V8 learns of what is more than it knows of, but of less only where it has found
// that itself (sweep), and in trim(). What it never knew of is not taken off either: a sum below zero ends the process.
void Runtime::account(int64_t bytes) {
  unreported_ += bytes;
  if (unreported_ >= kReportStep) report(unreported_);
}
void Runtime::report(int64_t bytes) {
  bytes = std::max(bytes, -reported_);
  int64_t total = 0;
  if (napi_adjust_external_memory(env_, bytes, &total) == napi_ok) unreported_ -= bytes, reported_ += bytes;
}

// Frees the slots whose JavaScript object is gone. A weak reference answers at once after a collection, also inside a
// synchronous loop, where finalizers and FinalizationRegistry callbacks never run.
uint32_t Runtime::sweep() {
  const int64_t before = unreported_;
  uint32_t freed = 0;
  for (uint32_t i = 0; i < slots.all().size(); i++) {
    const Slot& slot = slots.all()[i];
    if (!slot.owner || !slot.view.present()) continue;
    HandleScope scope(env_);
    napi_value object = nullptr;
    must(napi_get_reference_value(env_, slot.owner, &object));
    if (!object) free(slots.handle_of(i)), freed++;
  }
  sweep_recordings();
  report(unreported_ - before);
  sweeps_++, swept_ += freed;
  return freed;
}

size_t Runtime::live_bytes() const {
  size_t bytes = 0;
  for (auto& place : places_)
    if (place) bytes += place->allocator().live_bytes();
  return bytes;
}

void Runtime::sweep_under_pressure(size_t bytes) {
  if (live_bytes() + bytes <= sweep_at_ && slots.live() < sweep_at_slots_) return;
  sweep();
  // A device may fill gigabytes before V8, which marks in the background, is done with its first collection.
  if (live_bytes() + bytes > collect_at_) {
    collect_garbage();
    // What was made while V8 was marking outlives the collection that ends that.
    if (live_bytes() > collect_at_ / 2) collect_garbage();
    collect_at_ = std::numeric_limits<size_t>::max();
  }
  // Also lower, when what survived then has been given back since.
  collect_at_ = std::min(collect_at_, std::max(kCollectBytes, live_bytes() * 2));
  sweep_at_ = std::max(kSweepBytes, live_bytes() + live_bytes() / 4);
  sweep_at_slots_ = std::max(kSweepSlots, slots.live() * 2);
}

// Telling V8 of an absurd amount of external memory makes it collect at once, without --expose-gc.
void Runtime::collect_garbage() {
  constexpr int64_t kAbsurd = int64_t(1) << 40;
  int64_t total = 0;
  must(napi_adjust_external_memory(env_, kAbsurd, &total));
  must(napi_adjust_external_memory(env_, -kAbsurd, &total));
  sweep();
}

Block* Runtime::allocate(size_t bytes, const char* what, Place& place, Purpose purpose) {
  bytes = std::max<size_t>(bytes, 1);
  if (keeper()) {
    if (Block* block = keeper()->take(bytes, place.number)) return block;
  }
  Allocator& allocator = place.allocator();
  auto attempt = [&] {
    Block* block = purpose == Purpose::op ? allocator.allocate(bytes) : allocator.allocate_idle(bytes);
    if (block) account(int64_t(block->bytes));
    if (block && keeper()) keeper()->own(block);
    return block;
  };
  sweep_under_pressure(bytes);
  if (Block* block = attempt()) return block;
  if (purpose == Purpose::op) sweep();  // an upload more likely ran ahead of the stream
  if (Block* block = attempt()) return block;
  place.stream().wait(place.stream().queued());  // then every free block is idle and may be given back
  place.check_lost();
  if (Block* block = attempt()) return block;
  collect_garbage();
  allocator.trim();
  if (Block* block = attempt()) return block;
  const char* remedy = place.number == 0 ? ", or raise the limit (setMemoryLimit, FOVEA_MEMORY_LIMIT_MB)"
                                         : ", a smaller batch, or another device";
  fail("FOVEA_OUT_OF_MEMORY", what, ": needs ", (bytes + 1023) >> 10, " KB on ", place.name, ", but ",
       allocator.live_bytes() >> 20, " MB are in use here, ", place.taken() >> 20, " MB are held",
       place.number == 0 ? " by the process" : "", " and ", place.number == 0 ? "its limit is " : "the device has ",
       place.limit() >> 20, " MB; dispose tensors, use tidy()", remedy);
}

void Runtime::trim() {
  sweep();
  report(unreported_);
  drop_passed_holds();
  for (auto& place : places_)
    if (place) place->allocator().trim();
}

// ---- memory that others own

int32_t Runtime::adopt(napi_value owner, const View& shape, std::byte* data, size_t bytes,
                       std::shared_ptr<void> keeps) {
  refuse_recording("memory that others own cannot be taken over while a step is recorded; do it before");
  Holds holds(*this);
  View view = shape;
  view.block = holds.add(cpu().allocator().adopt(data, bytes, std::move(keeps)));
  view.data = data;
  return add_slot(view, owner);
}

uint32_t Runtime::add_file(std::shared_ptr<MappedFile> file) {
  files_.emplace(next_file_, std::move(file));
  return next_file_++;
}
std::shared_ptr<MappedFile> Runtime::file(uint32_t id, const char* what) {
  auto found = files_.find(id);
  if (found == files_.end()) fail("FOVEA_DISPOSED", what, ": file ", id, " is not mapped, or was closed; map it again");
  return found->second;
}

}  // namespace fovea
