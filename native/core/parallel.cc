#include "core/parallel.h"

#include <thread>

#include "core/park.h"

namespace fovea {

void Parallel::await(const int64_t& progress, int64_t value) const {
  // Whoever announces may wait for the core that this thread spins on.
  for (int spin = 0; __atomic_load_n(&progress, __ATOMIC_ACQUIRE) < value && !cancelled(); spin++) {
    if (spin < kSpins) cpu_relax();
    else std::this_thread::yield();
  }
}

}  // namespace fovea
