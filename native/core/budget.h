// The memory of the whole process: what all environments and shared storages hold from the system, under one limit.
#pragma once
#include <cstddef>

namespace fovea {

class Budget {
 public:
  static Budget& process();

  // False when it would pass the limit; what was granted is given back with give_back.
  bool take(size_t bytes);
  void give_back(size_t bytes);

  size_t taken() const;
  size_t limit() const;
  void set_limit(size_t bytes);
};

// Anonymous memory, 2 MB aligned and marked for huge pages where the system has them: the first touch of 4 KB pages
// costs more than most kernels. nullptr when the budget or the system refuses.
std::byte* map_pages(size_t bytes);
void unmap_pages(std::byte* address, size_t bytes);

}  // namespace fovea
