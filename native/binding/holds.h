// Keeps blocks alive through one call. A garbage collection inside of the call may take the last JavaScript object of
// an input, and a sweep would then hand its memory to the call's own output: V8 forgets an argument after its last use.
// Temporaries and outputs are held too, so that an exception on the way releases them.
#pragma once
#include <vector>

#include "binding/runtime.h"

namespace fovea {

class Holds {
 public:
  explicit Holds(Runtime& runtime) : runtime_(runtime) {}
  ~Holds() {
    for (int i = 0; i < count_; i++) drop(few_[i]);
    for (Block* block : more_) drop(block);
  }
  Holds(const Holds&) = delete;
  Holds& operator=(const Holds&) = delete;

  Block* add(Block* block) {
    if (count_ < kFew) few_[count_++] = block;
    else more_.push_back(block);
    block->users++;
    return block;
  }

 private:
  static constexpr int kFew = 32;
  void drop(Block* block) {
    block->users--;
    runtime_.release_if_unused(block);
  }
  Runtime& runtime_;
  int count_ = 0;
  Block* few_[kFew];
  std::vector<Block*> more_;
};

}  // namespace fovea
