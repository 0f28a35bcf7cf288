// Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): random bits as a pure function of
// (seed, counter), so that element i has the same value on every device, thread count and tiling.
//
// Convention of every random op: element i of the output takes word i % 4 of block `offset + i / 4`; the op reserves
// ceil(n / 4) blocks of its Generator when it is queued.
#pragma once
#include <cstdint>

#include "core/inline.h"

namespace fovea {

struct PhiloxBlock {
  uint32_t word[4];
};

// `stream` counts independent sequences: ops that need more than one word per element take the next ones from 1, 2, ...
FOVEA_INLINE PhiloxBlock philox(uint64_t seed, uint64_t block, uint32_t stream = 0) {
  uint32_t c0 = uint32_t(block), c1 = uint32_t(block >> 32), c2 = stream, c3 = 0;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c1 = uint32_t(p1), c3 = uint32_t(p0), c0 = n0, c2 = n2;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}
FOVEA_INLINE uint32_t philox_word(uint64_t seed, uint64_t offset, uint64_t element, uint32_t stream = 0) {
  return philox(seed, offset + element / 4, stream).word[element % 4];
}
// [0, 1), 24 bits
FOVEA_INLINE float uniform_of(uint32_t word) { return float(word >> 8) * 0x1p-24f; }

}  // namespace fovea
