// Bytes on their way between the host and a GPU. A GPU copies by itself only from and to page-locked memory, so that a
// transfer goes through blocks of it, piece by piece:
//
//   to a GPU:    the CPU's stream fills a block (in its order: later writes to the source do not matter), the GPU's
//                stream waits for it and copies it beside what it computes, into memory that nothing else uses
//   from a GPU:  the GPU copies a block in the order of its stream; then the CPU's stream, which waits for it, or the
//                thread that retires brings it to its place
//
// The JavaScript thread only queues. Blocks live until the stream that uses them last has passed (hold_until).
#include <algorithm>
#include <cstring>

#include "binding/holds.h"
#include "binding/runtime.h"

namespace fovea {
namespace {

constexpr size_t kPiece = 8u << 20;
constexpr size_t kCopyGrain = 1u << 20;  // of a piece, per thread

// What the commands of one transfer share; the last one to run frees it.
struct Transfer {
  Failure failure;  // of what is transferred
};

struct PieceCommand : Command {
  std::byte* to;
  const std::byte* from;
  size_t bytes;
  Block* block;  // whose failure is read (by the first of two streams) or written (by the second)
  Transfer* transfer;
  Stream* before;  // what has to pass `position` first
  uint64_t position;
  bool last;
};

void free_transfer(Command& command) {
  auto& c = static_cast<PieceCommand&>(command);
  if (c.last) delete c.transfer;
}

void copy_on_cpu(const PieceCommand& c, Stream& stream) {
  CpuStream::of(stream).parallel().for_range(int64_t(c.bytes), int64_t(kCopyGrain), [&](int64_t begin, int64_t end) {
    std::memcpy(c.to + begin, c.from + begin, size_t(end - begin));
  });
}

Failure failure_of(const GpuStatus& status) {
  if (status.ok()) return nullptr;
  return std::make_shared<const KernelFailure>(KernelFailure{status.code, std::string("to: ") + status.message});
}

// Of a command that the GPU is through with.
Failure outcome(const Failure& failure, Stream& stream) { return failure ? failure : DeviceStream::of(stream).lost(); }

struct Piece {
  size_t offset, bytes;
  bool last;
};
template <class Body>
void for_each_piece(size_t bytes, Body&& body) {
  for (size_t offset = 0; offset < bytes; offset += kPiece) {
    size_t piece = std::min(kPiece, bytes - offset);
    body(Piece{offset, piece, offset + piece == bytes});
  }
}

// ---- to a GPU

void stage(Command& command, Stream& stream) {
  auto& c = static_cast<PieceCommand&>(command);
  if (c.last) c.transfer->failure = c.block->failure;
  copy_on_cpu(c, stream);
}

void start_upload(Command& command, Stream& stream) {
  auto& c = static_cast<PieceCommand&>(command);
  if (!c.before->wait_elsewhere(c.position, stream)) return;
  GpuStatus status = DeviceStream::of(stream).gpu().upload(c.to, c.from, c.bytes);
  if (!status.ok()) c.transfer->failure = failure_of(status);
}
void finish_upload(Command& command, Stream& stream) {
  auto& c = static_cast<PieceCommand&>(command);
  if (c.last) c.block->failure = outcome(c.transfer->failure, stream);
  free_transfer(command);
}

// ---- from a GPU

void start_download(Command& command, Stream& stream) {
  auto& c = static_cast<PieceCommand&>(command);
  GpuStatus status = DeviceStream::of(stream).gpu().download(c.to, c.from, c.bytes);
  if (!status.ok()) c.transfer->failure = failure_of(status);
}
void finish_download(Command& command, Stream& stream) {
  auto& c = static_cast<PieceCommand&>(command);
  if (c.last && !c.transfer->failure) c.transfer->failure = outcome(c.block->failure, stream);
}
void unstage(Command& command, Stream& stream) {
  auto& c = static_cast<PieceCommand&>(command);
  if (c.before->wait_elsewhere(c.position, stream)) copy_on_cpu(c, stream);
  if (c.last) c.block->failure = c.transfer->failure;
  free_transfer(command);
}

struct DownloadCommand : Command {
  std::byte* page_locked;
  std::byte* destination;
  const std::byte* from;
  size_t bytes;
  Block* block;
  Failure* failure;
};
void start_read(Command& command, Stream& stream) {
  auto& c = static_cast<DownloadCommand&>(command);
  GpuStatus status = DeviceStream::of(stream).gpu().download(c.page_locked, c.from, c.bytes);
  if (!status.ok()) *c.failure = failure_of(status);
}
void finish_read(Command& command, Stream& stream) {
  auto& c = static_cast<DownloadCommand&>(command);
  if (!*c.failure) *c.failure = outcome(c.block->failure, stream);
  if (!*c.failure) std::memcpy(c.destination, c.page_locked, c.bytes);
}

}  // namespace

Block* Runtime::allocate_page_locked(size_t bytes, GpuPlace& gpu) {
  drop_passed_holds();
  auto attempt = [&] { return gpu.page_locked().allocate_idle(bytes); };
  if (Block* block = attempt()) return block;
  while (!held_.empty()) {  // the oldest first
    held_.front().stream->wait(held_.front().position);
    drop_passed_holds();
    if (Block* block = attempt()) return block;
  }
  gpu.stream().wait(gpu.stream().queued());
  gpu.check_lost();
  gpu.page_locked().trim();
  if (Block* block = attempt()) return block;
  fail("FOVEA_OUT_OF_MEMORY", "to: needs ", bytes >> 10,
       " KB of page-locked host memory, which the system refused; dispose tensors on 'cpu' or raise the limit "
       "(setMemoryLimit, FOVEA_MEMORY_LIMIT_MB)");
}

void Runtime::to_gpu(const View& from, const View& to, GpuPlace& gpu) {
  Stream &host = cpu().stream(), &device = gpu.stream();
  auto* transfer = new Transfer;
  for_each_piece(dense_bytes(from, "to"), [&](const Piece& piece) {
    Block* block = allocate_page_locked(piece.bytes, gpu);
    int64_t begin = profile_clock();
    auto& staged = host.reserve<PieceCommand>();
    staged.run = stage, staged.to = block->data, staged.from = from.data + piece.offset, staged.bytes = piece.bytes;
    staged.block = from.block, staged.transfer = transfer, staged.last = piece.last;
    uint64_t position = host.publish();
    note_copy(host, "stage", piece.bytes, begin, position);
    begin = profile_clock();
    auto& uploaded = device.reserve<PieceCommand>();
    uploaded.run = start_upload, uploaded.retire = finish_upload, uploaded.discard = free_transfer;
    uploaded.to = to.data + piece.offset, uploaded.from = block->data, uploaded.bytes = piece.bytes;
    uploaded.block = to.block, uploaded.transfer = transfer, uploaded.last = piece.last;
    uploaded.before = &host, uploaded.position = position;
    to.block->written_at = device.publish();
    note_copy(device, "upload", piece.bytes, begin, to.block->written_at);
    hold_until(device, to.block->written_at, block);
  });
}

void Runtime::from_gpu(const View& from, const View& to, GpuPlace& gpu) {
  Stream &host = cpu().stream(), &device = gpu.stream();
  auto* transfer = new Transfer;
  for_each_piece(dense_bytes(from, "to"), [&](const Piece& piece) {
    Block* block = allocate_page_locked(piece.bytes, gpu);
    int64_t begin = profile_clock();
    auto& downloaded = device.reserve<PieceCommand>();
    downloaded.run = start_download, downloaded.retire = finish_download, downloaded.notify = true;
    downloaded.to = block->data, downloaded.from = from.data + piece.offset, downloaded.bytes = piece.bytes;
    downloaded.block = from.block, downloaded.transfer = transfer, downloaded.last = piece.last;
    uint64_t position = device.publish();
    note_copy(device, "download", piece.bytes, begin, position);
    begin = profile_clock();
    auto& unstaged = host.reserve<PieceCommand>();
    unstaged.run = unstage, unstaged.discard = free_transfer;
    unstaged.to = to.data + piece.offset, unstaged.from = block->data, unstaged.bytes = piece.bytes;
    unstaged.block = to.block, unstaged.transfer = transfer, unstaged.last = piece.last;
    unstaged.before = &device, unstaged.position = position;
    to.block->written_at = host.publish();
    note_copy(host, "unstage", piece.bytes, begin, to.block->written_at);
    hold_until(host, to.block->written_at, block);
  });
}

int32_t Runtime::transfer(napi_value owner, int32_t handle, Place& to) {
  if (keeper())
    refuse_recording("a copy to another device cannot be kept; make it before, or of what the step returns");
  View from = slots.at(handle).view;
  Holds holds(*this);
  holds.add(from.block);
  auto target = [&](Place& place) {
    View view = from;
    view.make_contiguous_strides();
    Purpose purpose = place.number == 0 ? Purpose::op : Purpose::host_writes;
    view.block = holds.add(allocate(dense_bytes(from, "to"), "to", place, purpose));
    view.data = view.block->data;
    return view;
  };
  from = dense(from, "to", holds);
  if (from.block->device == to.number) return add_slot(from, owner);
  if (from.size() == 0) return empty(owner, from, to);
  if (from.block->device != 0) {  // also on the way from one GPU to another
    View host = target(cpu());
    from_gpu(from, host, static_cast<GpuPlace&>(*places_[from.block->device]));
    from = host;
  }
  if (to.number == 0) return add_slot(from, owner);
  View made = target(to);
  to_gpu(from, made, static_cast<GpuPlace&>(to));
  return add_slot(made, owner);
}

uint64_t Runtime::queue_download(const View& view, std::byte* destination, Failure& failure) {
  auto& gpu = static_cast<GpuPlace&>(*places_[view.block->device]);
  Stream& device = gpu.stream();
  uint64_t position = device.queued();
  for_each_piece(dense_bytes(view, "read"), [&](const Piece& piece) {
    Block* block = allocate_page_locked(piece.bytes, gpu);
    int64_t begin = profile_clock();
    auto& c = device.reserve<DownloadCommand>();
    c.run = start_read, c.retire = finish_read, c.notify = piece.last;
    c.page_locked = block->data, c.destination = destination + piece.offset, c.from = view.data + piece.offset;
    c.bytes = piece.bytes, c.block = view.block, c.failure = &failure;
    position = device.publish();
    note_copy(device, "read", piece.bytes, begin, position);
    hold_until(device, position, block);
  });
  return position;
}

void Runtime::queue_download(const View& view, std::byte* destination, std::unique_ptr<Pending> pending) {
  pending->stream = &places_[view.block->device]->stream();
  pending->position = queue_download(view, destination, pending->failure);
  promises.add(std::move(pending));
}

}  // namespace fovea
