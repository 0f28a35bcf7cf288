// Bringing bytes back to JavaScript, and waiting for the stream.
#include <cstring>

#include "binding/holds.h"
#include "binding/runtime.h"
#include "core/budget.h"

namespace fovea {
namespace {

constexpr size_t kCopyNow = 64u << 10;      // copied on the JavaScript thread; more would hold up its event loop
constexpr size_t kCopyPiece = 1u << 20;     // of a large copy, per thread
constexpr size_t kAskPolitely = 16u << 20;  // from here on V8 is asked in a way that it can refuse

template <class Element>
void gather(const View& from, std::byte* bytes) {
  auto* to = reinterpret_cast<Element*>(bytes);
  int64_t inner = from.dim(-1), step = from.stride(-1), rows = inner ? from.size() / inner : 0;
  for (int64_t row = 0; row < rows; row++) {
    const Element* p = from.as<Element>();
    int64_t rest = row;
    for (int d = from.rank - 2; d >= 0; d--) p += rest % from.shape[d] * from.strides[d], rest /= from.shape[d];
    for (int64_t i = 0; i < inner; i++) *to++ = p[i * step];
  }
}

// Copies a view of any strides into dense memory.
void copy_dense(const View& from, std::byte* to) {
  size_t width = bytes_of(from.dtype);
  if (from.size() == 0) return;
  if (from.contiguous()) return (void)std::memcpy(to, from.data, size_t(from.size()) * width);
  switch (width) {
    case 1: return gather<uint8_t>(from, to);
    case 2: return gather<uint16_t>(from, to);
    case 4: return gather<uint32_t>(from, to);
    default: return gather<uint64_t>(from, to);
  }
}

struct ReadCommand : Command {
  View view;
  std::byte* destination;
  Pending* pending;
};

void run_read(Command& command, Stream& stream) {
  auto& c = static_cast<ReadCommand&>(command);
  c.pending->failure = c.view.block->failure;
  if (c.pending->failure) return;
  int64_t bytes = c.view.size() * int64_t(bytes_of(c.view.dtype));
  if (!c.view.contiguous() || bytes <= int64_t(kCopyPiece)) return copy_dense(c.view, c.destination);
  CpuStream::of(stream).parallel().for_range(bytes, int64_t(kCopyPiece), [&](int64_t begin, int64_t end) {
    std::memcpy(c.destination + begin, c.view.data + begin, size_t(end - begin));
  });
}

}  // namespace

// napi_create_arraybuffer ends the process when there is no memory; the constructor throws a RangeError instead.
napi_value Runtime::array_buffer(size_t bytes, std::byte** data, const char* what) {
  napi_value buffer = nullptr;
  void* memory = nullptr;
  if (bytes < kAskPolitely) {
    must(napi_create_arraybuffer(env_, bytes, &memory, &buffer));
  } else {
    napi_value global = nullptr, constructor = nullptr, ignored = nullptr, length = number(env_, double(bytes));
    must(napi_get_global(env_, &global));
    must(napi_get_named_property(env_, global, "ArrayBuffer", &constructor));
    if (bytes > Budget::process().limit() || napi_new_instance(env_, constructor, 1, &length, &buffer) != napi_ok) {
      napi_get_and_clear_last_exception(env_, &ignored);
      fail("FOVEA_OUT_OF_MEMORY", what, ": there is no memory for an ArrayBuffer of ", bytes >> 20,
           " MB; read a smaller view (slice, narrow)");
    }
    must(napi_get_arraybuffer_info(env_, buffer, &memory, nullptr));
  }
  *data = static_cast<std::byte*>(memory);
  return buffer;
}

void Runtime::queue_read(const View& view, std::byte* destination, std::unique_ptr<Pending> pending) {
  if (view.block->device != 0) return queue_download(view, destination, std::move(pending));
  int64_t begin = profile_clock();
  auto& c = cpu().stream().reserve<ReadCommand>();
  c.view = view, c.destination = destination, c.pending = pending.get(), c.notify = true, c.run = run_read;
  pending->stream = &cpu().stream();
  pending->position = cpu().stream().publish();
  note_copy(cpu().stream(), "read", size_t(view.size()) * bytes_of(view.dtype), begin, pending->position);
  promises.add(std::move(pending));
}

napi_value Runtime::read_now(int32_t handle) {
  refuse_recording("values cannot be read while a step is recorded; return the tensor, and read it after the call");
  View view = slots.at(handle).view;
  Stream& stream = places_[view.block->device]->stream();
  std::byte* data = nullptr;
  if (view.block->device == 0) {
    stream.wait(view.block->written_at);
    if (const Failure& failure = view.block->failure) fail(failure->code, failure->message);
    napi_value buffer = array_buffer(dense_bytes(view, "read"), &data, "read");
    copy_dense(view, data);
    return buffer;
  }
  Holds holds(*this);
  holds.add(view.block);
  napi_value buffer = array_buffer(dense_bytes(view, "read"), &data, "read");
  Failure failure;
  stream.wait(queue_download(dense(view, "read", holds), data, failure));
  if (failure) fail(failure->code, failure->message);
  return buffer;
}

napi_value Runtime::read(int32_t handle) {
  refuse_recording("values cannot be read while a step is recorded; return the tensor, and read it after the call");
  View view = slots.at(handle).view;
  size_t bytes = dense_bytes(view, "read");
  if (view.block->device == 0 && bytes <= kCopyNow && view.block->written_at <= cpu().stream().done()) {
    if (const Failure& failure = view.block->failure) return promises.rejected(*failure);
    return promises.resolved(read_now(handle));
  }
  Holds holds(*this);
  holds.add(view.block);
  if (view.block->device != 0) view = dense(view, "read", holds);
  std::byte* data = nullptr;
  napi_value buffer = array_buffer(bytes, &data, "read");
  if (bytes == 0) return promises.resolved(buffer);
  auto pending = std::make_unique<Pending>();
  napi_value promise = promises.create(*pending);
  must(napi_create_reference(env_, buffer, 1, &pending->buffer));
  queue_read(view, data, std::move(pending));
  return promise;
}

napi_value Runtime::synchronize(Place& place) {
  Stream& stream = place.stream();
  if (stream.done() == stream.queued()) {
    napi_value undefined = nullptr;
    must(napi_get_undefined(env_, &undefined));
    return promises.resolved(undefined);
  }
  auto pending = std::make_unique<Pending>();
  napi_value promise = promises.create(*pending);
  auto& c = stream.reserve<Command>();
  c.run = [](Command&, Stream&) {}, c.notify = true;
  pending->stream = &stream;
  pending->position = stream.publish();
  promises.add(std::move(pending));
  return promise;
}

napi_value Runtime::share(int32_t handle) {
  refuse_recording("values cannot be read while a step is recorded; return the tensor, and read it after the call");
  View view = slots.at(handle).view;
  if (view.block->device != 0)
    fail("FOVEA_DEVICE", "share: the tensor is on ", place_name(view.block->device), "; move it to 'cpu' first");
  size_t bytes = dense_bytes(view, "share");
  Holds holds(*this);
  holds.add(view.block);
  auto pending = std::make_unique<Pending>();
  pending->shared = SharedStorage::make(view, bytes);
  if (!pending->shared) {
    cpu().stream().wait(cpu().stream().queued());
    collect_garbage();
    cpu().allocator().trim();
    pending->shared = SharedStorage::make(view, bytes);
  }
  if (!pending->shared)
    fail("FOVEA_OUT_OF_MEMORY", "share: needs ", bytes >> 10, " KB of shared memory, but the process holds ",
         Budget::process().taken() >> 20, " of ", Budget::process().limit() >> 20,
         " MB; dispose tensors or raise the limit (setMemoryLimit, FOVEA_MEMORY_LIMIT_MB)");
  napi_value promise = promises.create(*pending);
  std::byte* destination = pending->shared->view.data;
  queue_read(view, destination, std::move(pending));
  return promise;
}

}  // namespace fovea
