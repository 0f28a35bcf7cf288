// Matrix instructions. Products of 16-bit numbers are exact in float32; sums are taken in float64 and rounded once.
#include <cmath>
#include <cstring>
#include <limits>

#include "core/half.h"
#include "test/emulator/engines.h"

namespace fovea::emulator {

// What products in flight add to. The registers hold NaN until the last of them is done.
struct Accumulator {
  float* registers[kWarpSize];
  std::vector<float> values;  // lane after lane
  int in_flight = 0;
};

namespace {

constexpr int kDepth = 16;     // of one product
constexpr int kChunk = 8;      // 16-bit elements in 16 bytes
constexpr int kWarpRows = 16;  // of the 64 of a warpgroup
constexpr int kMaxColumns = 256;

float value_of(uint16_t bits, bool half) { return half ? to_float(Half{bits}) : to_float(Bfloat16{bits}); }
uint16_t low(uint32_t pair) { return uint16_t(pair); }
uint16_t high(uint32_t pair) { return uint16_t(pair >> 16); }

// A tile of A from the registers of a warp: ptx.h, mma_m16n8k16.
void read_registers(float (&a)[kWarpRows][kDepth], int lane, const uint32_t* r, bool half) {
  const int row = lane / 4, column = lane % 4 * 2;
  for (int i = 0; i < 4; i++) {
    float* at = &a[row + i % 2 * 8][column + i / 2 * 8];
    at[0] = value_of(low(r[i]), half), at[1] = value_of(high(r[i]), half);
  }
}
float dot(const float* a, const float* b, float c) {
  double sum = c;
  for (int k = 0; k < kDepth; k++) sum += double(a[k]) * double(b[k]);
  return float(sum);
}

void require_all(uint32_t lanes, const char* name) {
  if (lanes != kAllLanes) fail("%s needs all 32 lanes of the warp, and there are %08x", name, lanes);
}

struct MatrixAccess {
  uint32_t address;
  uint32_t* r;
};
void load_matrices(void* const* arguments, uint32_t lanes, bool transposed) {
  require_all(lanes, "ldmatrix");
  uint16_t matrices[4][8][8];
  for (int lane = 0; lane < kWarpSize; lane++) {
    const uint32_t address = static_cast<MatrixAccess*>(arguments[lane])->address;
    std::memcpy(matrices[lane / 8][lane % 8], shared_bytes(*current->block, address, 16, 16, "ldmatrix"), 16);
  }
  for (int lane = 0; lane < kWarpSize; lane++)
    for (int i = 0; i < 4; i++) {
      const int line = lane / 4, at = lane % 4 * 2;
      const auto& m = matrices[i];
      const uint32_t first = transposed ? m[at][line] : m[line][at];
      const uint32_t second = transposed ? m[at + 1][line] : m[line][at + 1];
      static_cast<MatrixAccess*>(arguments[lane])->r[i] = first | second << 16;
    }
}

struct SmallProduct {
  bool half;
  float* c;
  const uint32_t *a, *b;
};
void multiply_small(void* const* arguments, uint32_t lanes) {
  require_all(lanes, "mma");
  float a[kWarpRows][kDepth], b[8][kDepth];
  for (int lane = 0; lane < kWarpSize; lane++) {
    const auto& p = *static_cast<SmallProduct*>(arguments[lane]);
    read_registers(a, lane, p.a, p.half);
    for (int i = 0; i < 2; i++) {
      float* at = &b[lane / 4][lane % 4 * 2 + i * 8];
      at[0] = value_of(low(p.b[i]), p.half), at[1] = value_of(high(p.b[i]), p.half);
    }
  }
  for (int lane = 0; lane < kWarpSize; lane++) {
    float* c = static_cast<SmallProduct*>(arguments[lane])->c;
    for (int i = 0; i < 4; i++) c[i] = dot(a[lane / 4 + i / 2 * 8], b[lane % 4 * 2 + i % 2], c[i]);
  }
}

// ---- wgmma

// A matrix in shared memory as a descriptor gives it; wgmma.h has the bits.
struct Operand {
  const Block* block;
  uint32_t start, panel, group;  // addresses and byte offsets
  bool half, transposed;

  Operand(const Block& block, uint64_t descriptor, bool half, bool transposed)
      : block(&block),
        start(uint32_t(descriptor & 0x3fff) << 4),
        panel(uint32_t(descriptor >> 16 & 0x3fff) << 4),
        group(uint32_t(descriptor >> 32 & 0x3fff) << 4),
        half(half),
        transposed(transposed) {
    if (descriptor >> 62 != 1) fail("wgmma: a descriptor without the 128-byte swizzle");
    if (start >> 7 & 7) fail("wgmma: a descriptor of address %u, not aligned to the swizzle's 1024 bytes", start);
    if (transposed ? start & 0x7f : (start & 0x7f) > 128 - 2 * kDepth)
      fail("wgmma: a descriptor of address %u starts within a row", start);
  }
  // Row `line` of the untransposed matrix: its elements k = 0..15.
  void read_line(int line, float* to) const {
    for (int k = 0; k < kDepth; k += transposed ? 1 : kChunk) {
      const uint32_t address = transposed
                                   ? start + uint32_t(line / 64) * panel + uint32_t(line % 64) * 2 +
                                         uint32_t(k / 8) * group + uint32_t(k % 8) * 128
                                   : start + uint32_t(line / 8) * group + uint32_t(line % 8) * 128 + uint32_t(k) * 2;
      const uint32_t swizzled = address ^ (address >> 7 & 7) << 4;
      const int count = transposed ? 1 : kChunk;
      uint16_t bits[kChunk];
      std::memcpy(bits, shared_bytes(*block, swizzled, size_t(count) * 2, 2, "wgmma"), size_t(count) * 2);
      for (int i = 0; i < count; i++) to[k + i] = value_of(bits[i], half);
    }
  }
};

// A product of one warp, with what its registers held when it was issued.
struct WarpProduct {
  Product common;
  const Block* block;
  int first_row;  // of the warpgroup's 64
  uint32_t a_registers[kWarpSize][4];

  void compute(float* const (&d)[kWarpSize]) const {
    static thread_local float a[kWarpRows][kDepth], line[kDepth];
    static thread_local double b[kDepth][kMaxColumns], sums[kMaxColumns];
    if (common.a_registers) {
      for (int lane = 0; lane < kWarpSize; lane++) read_registers(a, lane, a_registers[lane], common.half);
    } else {
      Operand operand(*block, common.a, common.half, common.transpose_a);
      for (int row = 0; row < kWarpRows; row++) operand.read_line(first_row + row, a[row]);
    }
    Operand operand(*block, common.b, common.half, common.transpose_b);
    for (int column = 0; column < common.columns; column++) {
      operand.read_line(column, line);
      for (int k = 0; k < kDepth; k++) b[k][column] = line[k];
    }
    // A row of the result is spread over four lanes.
    for (int row = 0; row < kWarpRows; row++) {
      auto element = [&](int column) -> float& {
        return d[row % 8 * 4 + column % 8 / 2][column / 8 * 4 + row / 8 * 2 + column % 2];
      };
      for (int column = 0; column < common.columns; column++) sums[column] = common.accumulate ? element(column) : 0.0f;
      for (int k = 0; k < kDepth; k++) {
        const double factor = a[row][k];
        for (int column = 0; column < common.columns; column++) sums[column] += factor * b[k][column];
      }
      for (int column = 0; column < common.columns; column++) element(column) = float(sums[column]);
    }
  }
};

// The values behind the registers `d` while products are in flight; taken from there for the first of them.
std::shared_ptr<Accumulator> accumulator_of(Warp& warp, float* const (&d)[kWarpSize], int count) {
  for (auto& known : warp.accumulators)
    if (known->registers[0] == d[0]) {
      if (known->values.size() != size_t(count) * kWarpSize) fail("wgmma: another width while a product is in flight");
      return known;
    }
  auto made = std::make_shared<Accumulator>();
  std::memcpy(made->registers, d, sizeof d);
  for (float* registers : d) {
    made->values.insert(made->values.end(), registers, registers + count);
    std::fill_n(registers, count, std::numeric_limits<float>::quiet_NaN());
  }
  return warp.accumulators.emplace_back(made);
}
void run_product(Warp& warp, const WarpProduct& product, const std::shared_ptr<Accumulator>& accumulator) {
  const size_t count = size_t(product.common.columns) / 2;
  float* d[kWarpSize];
  for (size_t lane = 0; lane < kWarpSize; lane++) d[lane] = &accumulator->values[lane * count];
  product.compute(d);
  if (--accumulator->in_flight) return;
  for (size_t lane = 0; lane < kWarpSize; lane++) std::copy_n(d[lane], count, accumulator->registers[lane]);
  std::erase(warp.accumulators, accumulator);
}

// All lanes are there: the product is computed now or later.
void issue_product(void* const* arguments, uint32_t lanes) {
  require_all(lanes, "wgmma");
  Warp& warp = *current->warp;
  auto product = std::make_shared<WarpProduct>();
  product->common = *static_cast<Product*>(arguments[0]);
  product->block = current->block;
  product->first_row = warp.first->number / kWarpSize % 4 * kWarpRows;
  float* d[kWarpSize];
  for (int lane = 0; lane < kWarpSize; lane++) {
    const auto& own = *static_cast<Product*>(arguments[lane]);
    const Product& common = product->common;
    if (own.a != common.a || own.b != common.b || own.accumulate != common.accumulate)
      fail("wgmma: the descriptors of lane %d are not those of lane 0", lane);
    if (own.a_registers) std::memcpy(product->a_registers[lane], own.a_registers, sizeof product->a_registers[lane]);
    d[lane] = own.d;
  }
  if (warp.needs_fence) fail("wgmma without a wgmma_fence() before");
  warp.products_issued++;
  auto accumulator = accumulator_of(warp, d, product->common.columns / 2);
  accumulator->in_flight++;
  warp.products.add([&warp, product, accumulator] { run_product(warp, *product, accumulator); }, true);
}

}  // namespace

void matrices_load(uint32_t (&r)[4], uint32_t address, bool transposed) {
  MatrixAccess own{address, r};
  const WarpOperation straight = [](void* const* each, uint32_t lanes) { load_matrices(each, lanes, false); };
  const WarpOperation turned = [](void* const* each, uint32_t lanes) { load_matrices(each, lanes, true); };
  meet_warp(transposed ? "ldmatrix_x4_trans" : "ldmatrix_x4", kAllLanes, &own, transposed ? turned : straight);
}
void matrices_store(uint32_t address, const uint32_t (&r)[4]) {
  require_sm90("stmatrix");
  MatrixAccess own{address, const_cast<uint32_t*>(r)};
  meet_warp("stmatrix_x4", kAllLanes, &own, [](void* const* arguments, uint32_t lanes) {
    require_all(lanes, "stmatrix");
    for (int i = 0; i < 4; i++)
      for (int lane = 0; lane < kWarpSize; lane++) {
        const uint32_t row = static_cast<MatrixAccess*>(arguments[i * 8 + lane / 4])->address;
        std::byte* to = shared_bytes(*current->block, row, 16, 16, "stmatrix") + lane % 4 * 4;
        std::memcpy(to, &static_cast<MatrixAccess*>(arguments[lane])->r[i], 4);
      }
  });
}
void multiply(bool half, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  SmallProduct own{half, c, a, b};
  meet_warp("mma_m16n8k16", kAllLanes, &own, multiply_small);
}

void product_issue(const Product& product) {
  require_sm90("wgmma");
  Product own = product;
  meet_warp("wgmma", kAllLanes, &own, issue_product);
}
void product_fence() {
  meet_warp("wgmma_fence", kAllLanes, nullptr, [](void* const*, uint32_t lanes) {
    require_all(lanes, "wgmma_fence");
    current->warp->needs_fence = false;
  });
}
void product_commit() {
  meet_warp("wgmma_commit", kAllLanes, nullptr, [](void* const*, uint32_t lanes) {
    require_all(lanes, "wgmma_commit");
    current->warp->products.commit();
  });
}
void product_wait(int groups) {
  meet_warp("wgmma_wait", kAllLanes, &groups, [](void* const* arguments, uint32_t lanes) {
    require_all(lanes, "wgmma_wait");
    const int left = *static_cast<int*>(arguments[0]);
    current->warp->products.wait(size_t(left));
    if (left == 0) current->warp->needs_fence = true;
  });
}

}  // namespace fovea::emulator
