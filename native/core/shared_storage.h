// Tensors that several environments (worker threads) of one process see. share() copies a tensor here; whoever has the
// token may adopt it as often as it likes. The storage lives until the token is released and every tensor on it is
// gone, whether or not the thread that shared it still exists.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/view.h"

namespace fovea {

// Names a storage. The nonce is random, so that a guessed or outdated token names nothing.
struct SharedToken {
  uint32_t id = 0, nonce_high = 0, nonce_low = 0;
};

struct SharedStorage {
  // nullptr when the memory limit of the process does not allow it. Shape and dtype of `like`, dense.
  static std::shared_ptr<SharedStorage> make(const View& like, size_t bytes);
  ~SharedStorage();

  View view;  // block stays empty
  size_t bytes = 0;
  size_t mapped = 0;
};

// Any thread.
SharedToken publish_shared(std::shared_ptr<SharedStorage> storage);
std::shared_ptr<SharedStorage> find_shared(const SharedToken& token);  // nullptr: released, or never was
void release_shared(const SharedToken& token);                         // a second time does nothing

}  // namespace fovea
