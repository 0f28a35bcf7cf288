// The tile registers of AMX: eight of up to 16 rows of up to 64 bytes, of which a product uses 0 to 3 for sums, 4 and 5
// for A, 6 and 7 for B. Included by per-instruction-set files only.
#pragma once
#include "cpu/simd.h"

#if defined(__AMX_TILE__)

namespace fovea::FOVEA_ISA {
namespace {

struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  // Of products over `depth` bytes of k at a time, a multiple of 4.
  constexpr explicit TileConfig(uint8_t depth) {
    row_bytes[4] = row_bytes[5] = depth;
    rows[6] = rows[7] = depth / 4;
  }
};
template <uint8_t Depth>
constexpr TileConfig kTiles{Depth};

// A thread holds them while it multiplies: what is in them is saved whenever it is switched.
template <uint8_t Depth>
struct TileRegistersFor {
  FOVEA_INLINE TileRegistersFor() { _tile_loadconfig(&kTiles<Depth>); }
  FOVEA_INLINE ~TileRegistersFor() { _tile_release(); }
};
using TileRegisters = TileRegistersFor<64>;

FOVEA_INLINE void order_memory() { __asm__ volatile("" ::: "memory"); }  // the intrinsics do not say what they read

}  // namespace
}  // namespace fovea::FOVEA_ISA

#endif
