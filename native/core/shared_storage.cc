#include "core/shared_storage.h"

#include <mutex>
#include <random>
#include <unordered_map>

#include "core/budget.h"

namespace fovea {
namespace {

struct Entry {
  SharedToken token;
  std::shared_ptr<SharedStorage> storage;
};
struct Table {
  std::mutex mutex;
  std::unordered_map<uint32_t, Entry> entries;
  std::random_device random;
  uint32_t next_id = 1;
};
// Never destroyed: workers may still use it while process.exit() runs destructors of statics.
Table& table() {
  static Table& instance = *new Table;
  return instance;
}
bool same(const SharedToken& a, const SharedToken& b) {
  return a.nonce_high == b.nonce_high && a.nonce_low == b.nonce_low;
}

}  // namespace

std::shared_ptr<SharedStorage> SharedStorage::make(const View& like, size_t bytes) {
  constexpr size_t kPage = 4096;
  size_t mapped = (bytes + kPage) / kPage * kPage;
  std::byte* memory = map_pages(mapped);
  if (!memory) return nullptr;
  auto storage = std::make_shared<SharedStorage>();
  storage->view = like;
  storage->view.make_contiguous_strides();
  storage->view.data = memory, storage->view.block = nullptr;
  storage->bytes = bytes, storage->mapped = mapped;
  return storage;
}
SharedStorage::~SharedStorage() {
  if (mapped) unmap_pages(view.data, mapped);
}

SharedToken publish_shared(std::shared_ptr<SharedStorage> storage) {
  Table& shared = table();
  std::lock_guard lock(shared.mutex);
  SharedToken token;
  do token.id = shared.next_id++;
  while (token.id == 0 || shared.entries.contains(token.id));
  token.nonce_high = shared.random(), token.nonce_low = shared.random();
  shared.entries.emplace(token.id, Entry{token, std::move(storage)});
  return token;
}

std::shared_ptr<SharedStorage> find_shared(const SharedToken& token) {
  Table& shared = table();
  std::lock_guard lock(shared.mutex);
  auto found = shared.entries.find(token.id);
  return found == shared.entries.end() || !same(found->second.token, token) ? nullptr : found->second.storage;
}

void release_shared(const SharedToken& token) {
  Table& shared = table();
  std::shared_ptr<SharedStorage> last;  // unmapped after the lock is gone
  std::lock_guard lock(shared.mutex);
  auto found = shared.entries.find(token.id);
  if (found == shared.entries.end() || !same(found->second.token, token)) return;
  last = std::move(found->second.storage);
  shared.entries.erase(found);
}

}  // namespace fovea
