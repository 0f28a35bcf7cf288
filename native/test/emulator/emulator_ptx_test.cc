// The functions of cuda/ptx.h on the emulator: matrix fragments, copies in the background, barriers in shared memory,
// clusters. Each once as it should be, and once with the mistake that must be noticed.
#include "test/emulator/emulator_test.h"

namespace fovea::test {
namespace {

TensorMap map_of(Tensor& t, std::initializer_list<uint32_t> box) {
  const DeviceLimits device = {90, 4, 227 << 10, 1 << 20};
  const char *code = nullptr, *message = nullptr;
  const CudaCall call{{}, {}, nullptr, "test", device, nullptr, nullptr, &code, &message};
  const View& v = t.view;
  const auto size = [&](int i) { return uint64_t(v.dim(-1 - i)); };
  const auto stride = [&](int i) { return uint64_t(v.stride(-1 - i)) * bytes_of(v.dtype); };
  if (v.rank == 2) return tensor_map(call, v.dtype, v.data, {size(0), size(1)}, {stride(1)}, box);
  return tensor_map(call, v.dtype, v.data, {size(0), size(1), size(2), size(3)}, {stride(1), stride(2), stride(3)},
                    box);
}

template <class T>
void check_mma() {
  float c[16][8];
  emulator::launch(1, 32, 1024, 1, [&] {
    T *a = shared_as<T>(), *b = shared_as<T>(512);  // A[16, 16], B[16, 8], row-major
    for (int i = int(threadIdx.x); i < 256; i += 32) a[i] = number<T>(entry(i / 16, i % 16));
    for (int i = int(threadIdx.x); i < 128; i += 32) b[i] = number<T>(entry(i % 8, i / 8 + 3));
    __syncwarp();
    const int lane = int(threadIdx.x), row = lane / 4, column = lane % 4 * 2;
    uint32_t ra[4], rb[4];
    ldmatrix_x4(ra, shared_at(size_t(lane % 16 * 32 + lane / 16 * 16)));
    ldmatrix_x4_trans(rb, shared_at(512 + size_t(lane % 16 * 16)));
    float r[4] = {1, 2, 3, 4};
    mma_m16n8k16<T>(r, ra, rb[0], rb[1]);
    for (int i = 0; i < 4; i++) c[row + i / 2 * 8][column + i % 2] = r[i] - float(i + 1);
  });
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 8; j++) {
      int expected = 0;
      for (int k = 0; k < 16; k++) expected += entry(i, k) * entry(j, k + 3);
      FOVEA_CHECK_CLOSE(c[i][j], expected, 0);
    }
}

}  // namespace

FOVEA_TEST(emulator_mma_and_ldmatrix) { check_mma<Half>(), check_mma<Bfloat16>(); }

FOVEA_TEST(emulator_stmatrix_reverses_ldmatrix) {
  bool same = true;
  emulator::launch(1, 32, 1024, 1, [&] {
    for (int i = int(threadIdx.x); i < 256; i += 32) shared_as<uint16_t>()[i] = uint16_t(i * 31);
    __syncwarp();
    uint32_t r[4];
    ldmatrix_x4(r, shared_at(threadIdx.x * 16));
    stmatrix_x4(shared_at(512 + threadIdx.x * 16), r[0], r[1], r[2], r[3]);
    __syncwarp();
    for (int i = int(threadIdx.x); i < 256; i += 32) same &= shared_as<uint16_t>(512)[i] == uint16_t(i * 31);
  });
  FOVEA_CHECK(same, "stored elsewhere");
  CHECK_FAILURE("not aligned", 1, 32, 1024, [] {
    uint32_t r[4];
    ldmatrix_x4(r, shared_at(8));
  });
  CHECK_FAILURE("outside", 1, 32, 256, [] {
    uint32_t r[4];
    ldmatrix_x4(r, shared_at(threadIdx.x * 16));
  });
  CHECK_FAILURE("needs all 32 lanes", 1, 31, 1024, [] {
    uint32_t r[4];
    ldmatrix_x4(r, shared_at(0));
  });
}

FOVEA_TEST(emulator_pairs_and_approximations) {
  FOVEA_CHECK(pack_pair<Bfloat16>(1, -2) == 0xc0003f80u, "%x", pack_pair<Bfloat16>(1, -2));
  FOVEA_CHECK(pack_pair<Half>(1, NAN) == 0x7fff3c00u, "%x", pack_pair<Half>(1, NAN));
  FOVEA_CHECK_CLOSE(exp2_fast(3), 8, 1e-5);
  FOVEA_CHECK_CLOSE(exp2_fast(-130), 0, 0);
  FOVEA_CHECK_CLOSE(tanh_fast(0.5f), std::tanh(0.5), 1e-3);
}

// ---- cp.async

// kLeft: groups that may be outstanding when the copies are read. 0 is correct.
template <int kLeft>
int wrong_copies(bool barrier) {
  std::vector<float> from(64 * 4, 1);
  int wrong = 0;
  for_each_seed([&] {
    emulator::launch(1, 64, 64 * 16, 1, [&] {
      cp_async_16(shared_at(threadIdx.x * 16), &from[threadIdx.x * 4], threadIdx.x % 2 == 0);
      cp_async_commit();
      cp_async_wait<kLeft>();
      if (barrier) __syncthreads();
      const float expected = threadIdx.x % 2 ? 1 : 0;  // of the neighbour
      if (shared_as<float>()[(threadIdx.x ^ 1) * 4 + 3] != expected) wrong++;
    });
  });
  return wrong;
}
FOVEA_TEST(emulator_cp_async) {
  FOVEA_CHECK(wrong_copies<0>(true) == 0, "wrong");
  FOVEA_CHECK(wrong_copies<1>(true) > 100, "a missing wait is not seen: %d", wrong_copies<1>(true));
  FOVEA_CHECK(wrong_copies<0>(false) > 100, "a missing barrier is not seen: %d", wrong_copies<0>(false));
  CHECK_FAILURE("not aligned", 1, 1, 64, [] { cp_async_16(shared_at(4), nullptr, false); });
  CHECK_FAILURE("outside", 1, 1, 60, [] { cp_async_16(shared_at(48), nullptr, false); });
}

// ---- TMA

// A tile of 64 x 16 at (x, y) through shared memory, to the same place of `to`.
void move_tile(const TensorMap& from, const TensorMap& to, int x, int y, bool wait = true, uint32_t bytes = 2048) {
  auto* barrier = shared_as<uint64_t>(2048);
  if (threadIdx.x == 0) {
    mbarrier_init(barrier, 1);
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mbarrier_expect(barrier, bytes);
    tma_load_2d(emulator::shared_memory(), &from, barrier, x, y);
  }
  if (wait) mbarrier_wait(barrier, 0);
  for (int i = int(threadIdx.x); i < 1024; i += int(blockDim.x)) {
    auto* at = reinterpret_cast<Half*>(emulator::shared_memory() + swizzled(i / 64, i % 64, 2));
    *at = to_half(to_float(*at) + 1);
  }
  fence_async_proxy();
  __syncthreads();
  if (!wait) mbarrier_wait(barrier, 0);
  if (threadIdx.x == 0) {
    tma_store_2d(&to, emulator::shared_memory(), x, y);
    tma_store_commit();
    tma_store_wait_read<0>();
  }
}

FOVEA_TEST(emulator_tma_tiles_are_clipped) {
  Tensor x(Dtype::f16, {21, 72}), y(Dtype::f16, {21, 72});
  for (int i = 0; i < 21 * 72; i++) x.set(i, i % 1000), y.set(i, -1);
  const TensorMap from = map_of(x, {64, 16}), to = map_of(y, {64, 16});
  emulator::launch(dim3(2, 2), 64, 2048 + 8, 1,
                   [&] { move_tile(from, to, int(blockIdx.x) * 64, int(blockIdx.y) * 16); });
  for (int i = 0; i < 21 * 72; i++) FOVEA_CHECK_CLOSE(y.at(i), i % 1000 + 1, 0);
  FOVEA_CHECK(y.intact(), "written beyond the tensor");

  bool zeros = true;
  emulator::launch(1, 1, 2048 + 8, 1, [&] {
    auto* barrier = shared_as<uint64_t>(2048);
    mbarrier_init(barrier, 1);
    mbarrier_expect(barrier, 2048);
    tma_load_2d(emulator::shared_memory(), &from, barrier, -3, 10);
    mbarrier_wait(barrier, 0);
    for (int i = 0; i < 1024; i++) {
      const int row = i / 64 + 10, column = i % 64 - 3;
      const double expected = row < 21 && column >= 0 ? x.at(row * 72 + column) : 0;
      zeros &= to_float(*shared_as<Half>(swizzled(i / 64, i % 64, 2))) == expected;
    }
  });
  FOVEA_CHECK(zeros, "not the clipped tile");
}

FOVEA_TEST(emulator_tma_mistakes) {
  Tensor x(Dtype::f16, {16, 64}), y(Dtype::f16, {16, 64});
  x.fill_random(1);
  const TensorMap from = map_of(x, {64, 16}), to = map_of(y, {64, 16});
  int wrong = 0;
  for_each_seed([&] {
    emulator::launch(1, 64, 2048 + 8, 1, [&] { move_tile(from, to, 0, 0, false); });
    for (int j = 0; j < 1024; j++) wrong += std::fabs(y.at(j) - x.at(j) - 1) > 0.01;
  });
  FOVEA_CHECK(wrong > 100, "a missing wait is not seen: %d", wrong);
  CHECK_FAILURE("deadlock", 1, 64, 2056, [&] { move_tile(from, to, 0, 0, true, 4096); });
  CHECK_FAILURE("while TMA was loading", 1, 1, 2056, [&] {
    mbarrier_init(shared_as<uint64_t>(2048), 1);
    tma_load_2d(emulator::shared_memory(), &from, shared_as<uint64_t>(2048), 0, 0);
  });
  CHECK_FAILURE("not aligned", 1, 1, 4096, [&] { tma_store_2d(&to, emulator::shared_memory() + 128, 0, 0); });
  CHECK_FAILURE("outside", 1, 1, 1024, [&] { tma_store_2d(&to, emulator::shared_memory(), 0, 0); });
  int unwaited = 0;
  for_each_seed([&] {
    auto store = [&] { tma_store_2d(&to, emulator::shared_memory(), 0, 0); };
    unwaited += contains(failure_of(4, 1, 2048, store), "TMA stores");
  });
  FOVEA_CHECK(unwaited > 0, "a store that nobody waits for is not seen");
  Tensor odd(Dtype::f16, {16, 60});
  FOVEA_CHECK(code_of([&] { map_of(odd, {64, 16}); }) == "FOVEA_KERNEL_FAILED", "a stride of 120 bytes is taken");
  FOVEA_CHECK(code_of([&] { map_of(x, {32, 16}); }) == "FOVEA_KERNEL_FAILED", "a box of 64 bytes is taken");
}

// A tile may come later than anything that does not wait for it, however long that takes.
FOVEA_TEST(emulator_tma_comes_late) {
  Tensor x(Dtype::f16, {16, 64});
  x.fill(std::vector<double>(1024, 1));
  const TensorMap from = map_of(x, {64, 16});
  int early = 0;
  for_each_seed([&] {
    emulator::launch(1, 64, 2048 + 8, 1, [&] {
      auto* barrier = shared_as<uint64_t>(2048);
      if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1), mbarrier_expect(barrier, 2048);
        tma_load_2d(emulator::shared_memory(), &from, barrier, 0, 0);
      }
      for (int i = 0; i < 200; i++) __syncthreads();
      if (threadIdx.x == 0) early += to_float(*shared_as<Half>()) != 1;
      mbarrier_wait(barrier, 0);
    });
  });
  FOVEA_CHECK(early > 0, "the tile was always there after 200 steps");
}

FOVEA_TEST(emulator_tma_four_axes) {
  Tensor x = Tensor::random(Dtype::f32, {2, 3, 5, 32}, 3), y(Dtype::f32, {2, 3, 5, 32});
  const TensorMap from = map_of(x, {32, 4, 1, 1}), to = map_of(y, {32, 4, 1, 1});
  emulator::launch(dim3(2, 3, 2), 1, 1024, 1, [&] {
    auto* barrier = shared_as<uint64_t>(512);
    mbarrier_init(barrier, 1);
    mbarrier_expect(barrier, 512);
    const int row = int(blockIdx.x) * 4, z = int(blockIdx.y), w = int(blockIdx.z);
    tma_load_4d(emulator::shared_memory(), &from, barrier, 0, row, z, w);
    mbarrier_wait(barrier, 0);
    tma_store_4d(&to, emulator::shared_memory(), 0, row, z, w);
    tma_store_commit(), tma_store_wait_all();
  });
  FOVEA_CHECK(y.same_bits(x) && y.intact(), "not a copy");
}

// ---- mbarrier

FOVEA_TEST(emulator_mbarrier_phases) {
  std::vector<int> order;
  emulator::launch(1, 64, 16, 1, [&] {
    uint64_t *full = shared_as<uint64_t>(), *empty = full + 1;
    if (threadIdx.x == 0) mbarrier_init(full, 1), mbarrier_init(empty, 1);
    __syncthreads();
    for (uint32_t round = 0; round < 6; round++) {  // one slot, handed to and fro
      if (threadIdx.x == 0) {
        mbarrier_wait(empty, (round & 1) ^ 1);
        order.push_back(int(round));
        mbarrier_arrive(full);
      } else if (threadIdx.x == 32) {
        mbarrier_wait(full, round & 1);
        order.push_back(int(round) + 100);
        mbarrier_arrive(empty);
      }
    }
  });
  for (size_t i = 0; i < order.size(); i++) FOVEA_CHECK(order[i] == int(i / 2 + i % 2 * 100), "%d", order[i]);
  FOVEA_CHECK(order.size() == 12, "%zu", order.size());
  CHECK_FAILURE("not initialised", 1, 1, 16, [] { mbarrier_arrive(shared_as<uint64_t>()); });
  CHECK_FAILURE("overwritten", 1, 1, 16, [] {
    mbarrier_init(shared_as<uint64_t>(), 1);
    *shared_as<uint64_t>() = 0;
    mbarrier_arrive(shared_as<uint64_t>());
  });
  CHECK_FAILURE("more arrivals", 1, 1, 16, [] {
    mbarrier_init(shared_as<uint64_t>(), 2);
    mbarrier_expect(shared_as<uint64_t>(), 16);  // bytes that never come keep the phase open
    mbarrier_arrive(shared_as<uint64_t>());
    mbarrier_arrive(shared_as<uint64_t>());
  });
  CHECK_FAILURE("mbarrier at byte 8 for parity 0", 1, 32, 16, [] {
    uint64_t* barrier = shared_as<uint64_t>(8);
    if (threadIdx.x == 0) mbarrier_init(barrier, 2), mbarrier_arrive(barrier);
    __syncwarp();
    mbarrier_wait(barrier, 0);
  });
}

FOVEA_TEST(emulator_named_barriers) {
  int wrong = 0;
  emulator::launch(1, 256, 512, 1, [&] {
    const int group = int(threadIdx.x / 128), index = int(threadIdx.x % 128);
    auto* x = shared_as<uint16_t>() + group * 128;
    x[index] = uint16_t(index);
    if (threadIdx.x == 0) return named_barrier_sync(1, 128);
    named_barrier_sync(1 + group, 128);
    if (x[127 - index] != 127 - index) wrong++;
  });
  FOVEA_CHECK(wrong == 0, "%d", wrong);
  CHECK_FAILURE("named barrier 3", 1, 64, 0, [] {
    if (threadIdx.x < 32) named_barrier_sync(3, 64);
  });
  CHECK_FAILURE("barrier 3 is used with", 1, 64, 0, [] { named_barrier_sync(3, threadIdx.x < 32 ? 64 : 96); });
}

// ---- clusters

FOVEA_TEST(emulator_clusters) {
  Tensor x = Tensor::random(Dtype::f16, {16, 64}, 5);
  const TensorMap map = map_of(x, {64, 8});
  int wrong = 0, ranks = 0;
  emulator::launch(4, 32, 2048 + 16, 2, [&] {
    uint64_t *full = shared_as<uint64_t>(2048), *peers = full + 1;
    if (threadIdx.x == 0) mbarrier_init(full, 1), mbarrier_init(peers, 2), fence_mbarrier_init();
    cluster_sync();
    if (threadIdx.x == 0) {  // each block fetches half of the tile for both
      const int half = int(cluster_rank());
      mbarrier_expect(full, 2048);
      tma_load_2d_multicast(emulator::shared_memory() + half * 1024, &map, full, 0, half * 8, 3);
      mbarrier_arrive_cluster(peers, 0), mbarrier_arrive_cluster(peers, 1);
      ranks += half + 10;
    }
    mbarrier_wait(full, 0);
    mbarrier_wait(peers, 0);
    for (int i = int(threadIdx.x); i < 1024; i += 32)
      wrong += to_float(*shared_as<Half>(swizzled(i / 64, i % 64, 2))) != x.at(i);
    cluster_sync();
  });
  FOVEA_CHECK(wrong == 0 && ranks == 42, "%d %d", wrong, ranks);
  bool seen = false;  // a block that ends too early, in some order
  for_each_seed([&] {
    auto arrive = [] {
      mbarrier_init(shared_as<uint64_t>(), 1);
      cluster_sync();
      if (cluster_rank() == 0) mbarrier_arrive_cluster(shared_as<uint64_t>(), 1);
    };
    seen |= contains(failure_of(2, 1, 8, arrive, 2), "after that has ended");
  });
  FOVEA_CHECK(seen, "a block of a cluster that ends before its peers is not seen");
}

}  // namespace fovea::test
