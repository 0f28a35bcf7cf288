// Memory that outlives or precedes a tensor: storage shared between the threads of the process, and mapped files.
#include <cstring>

#include "binding/arguments.h"
#include "binding/tokens.h"

namespace fovea {
namespace {

// share(handle) -> promise of a token
napi_value share(Runtime& runtime, Arguments& args) { return runtime.share(args.handle(0)); }

// adopt(owner, token): a tensor on the shared storage, in any thread of the process
napi_value adopt(Runtime& runtime, Arguments& args) {
  napi_value owner = args.owner(0);
  std::shared_ptr<SharedStorage> storage = find_shared(token_from(args.env, args.at(1, "a token"), args.function));
  if (!storage)
    fail("FOVEA_DISPOSED", "adopt: the shared tensor was released, or belongs to another process; share() it again");
  std::byte* data = storage->view.data;
  View shape = storage->view;
  size_t bytes = storage->bytes;
  return integer(args.env, runtime.adopt(owner, shape, data, bytes, std::move(storage)));
}

napi_value release(Runtime&, Arguments& args) {
  release_shared(token_from(args.env, args.at(0, "a token"), args.function));
  return nullptr;
}

std::string path_of(const Arguments& args, size_t i) {
  std::string path = args.text(i, "a path");
  if (path.empty() || path.find('\0') != path.npos) args.refuse(i, "a path that is not empty and holds no NUL");
  return path;
}

// mapFile(path) -> [id, bytes]
napi_value map_file(Runtime& runtime, Arguments& args) {
  std::shared_ptr<MappedFile> file = MappedFile::open(path_of(args, 0));
  size_t bytes = file->bytes();
  napi_value pair = nullptr;
  must(napi_create_array_with_length(args.env, 2, &pair));
  must(napi_set_element(args.env, pair, 0, number(args.env, runtime.add_file(std::move(file)))));
  must(napi_set_element(args.env, pair, 1, number(args.env, double(bytes))));
  return pair;
}

uint32_t file_id(const Arguments& args, size_t i) {
  size_t id = args.size(i);
  return id > UINT32_MAX ? 0 : uint32_t(id);  // 0 names no file
}

// Start of `bytes` bytes at `offset`, or an error: what a file claims to hold is not believed.
std::byte* inside(const MappedFile& file, size_t offset, size_t bytes, const char* what) {
  if (offset > file.bytes() || bytes > file.bytes() - offset)
    fail("FOVEA_FILE_FORMAT", what, ": ", bytes, " bytes at ", offset, " reach beyond the end of the file, which has ",
         file.bytes(), "; the file is truncated or damaged");
  return file.data() + offset;
}

// mapRead(id, offset, length) -> ArrayBuffer, a copy
napi_value map_read(Runtime& runtime, Arguments& args) {
  std::shared_ptr<MappedFile> file = runtime.file(file_id(args, 0), args.function);
  size_t length = args.size(2);
  const std::byte* from = inside(*file, args.size(1), length, args.function);
  std::byte* to = nullptr;
  napi_value buffer = runtime.array_buffer(length, &to, args.function);
  if (length) std::memcpy(to, from, length);
  return buffer;
}

// mapTensor(owner, id, byteOffset, dtype, rank), shape in scratch: on the file's pages, or a copy where they are
// misaligned
napi_value map_tensor(Runtime& runtime, Arguments& args) {
  napi_value owner = args.owner(0);
  std::shared_ptr<MappedFile> file = runtime.file(file_id(args, 1), args.function);
  View shape = args.shape(runtime, 4, args.dtype(3));
  size_t bytes = dense_bytes(shape, args.function);
  std::byte* data = inside(*file, args.size(2), bytes, args.function);
  bool aligned = reinterpret_cast<uintptr_t>(data) % bytes_of(shape.dtype) == 0;
  if (!aligned || bytes == 0) return integer(args.env, runtime.upload(owner, shape, data));
  return integer(args.env, runtime.adopt(owner, shape, data, bytes, std::move(file)));
}

// mapClose(id): tensors on the file keep it mapped
napi_value map_close(Runtime& runtime, Arguments& args) {
  runtime.close_file(file_id(args, 0));
  return nullptr;
}

}  // namespace

void export_storage(Exports& exports) {
  exports.add("share", entry<share>);
  exports.add("adopt", entry<adopt>);
  exports.add("releaseShared", entry<release>);
  exports.add("mapFile", entry<map_file>);
  exports.add("mapRead", entry<map_read>);
  exports.add("mapTensor", entry<map_tensor>);
  exports.add("mapClose", entry<map_close>);
}

}  // namespace fovea
