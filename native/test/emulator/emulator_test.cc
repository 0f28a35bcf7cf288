// The emulator itself: barriers, warp-wide operations, atomics, threads that end early, and that mistakes are noticed.
#include <numeric>
#include <thread>

#include "test/emulator/emulator_test.h"

namespace fovea::test {
FOVEA_TEST(emulator_runs_every_thread_once) {
  std::vector<int> seen(6 * 5 * 4 * 7 * 3 * 2);
  emulator::launch(dim3(6, 5, 4), dim3(7, 3, 2), 0, 1, [&] {
    unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    seen[block * blockDim.x * blockDim.y * blockDim.z + thread]++;
  });
  for (int count : seen) FOVEA_CHECK(count == 1, "a thread ran %d times", count);
}

FOVEA_TEST(emulator_barrier_shares_memory) {
  std::vector<int> sums(3);
  emulator::launch(3, 1024, 1024 * sizeof(int), 1, [&] {
    int* x = shared_as<int>();
    x[threadIdx.x] = int(threadIdx.x + blockIdx.x);
    __syncthreads();
    for (unsigned step = 512; step; step /= 2) {
      if (threadIdx.x < step) x[threadIdx.x] += x[threadIdx.x + step];
      __syncthreads();
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = x[0];
  });
  for (int b = 0; b < 3; b++) FOVEA_CHECK(sums[size_t(b)] == 1023 * 512 + 1024 * b, "sum %d", sums[size_t(b)]);
}

FOVEA_TEST(emulator_missing_barrier_is_seen) {
  int wrong = 0;
  emulator::launch(4, 128, 128 * sizeof(int), 1, [&] {
    int* x = shared_as<int>();
    x[threadIdx.x] = int(threadIdx.x);
    if (x[127 - threadIdx.x] != int(127 - threadIdx.x)) wrong++;
  });
  FOVEA_CHECK(wrong > 100, "%d", wrong);
}

FOVEA_TEST(emulator_barrier_counts_votes_and_live_threads) {
  int count = 0, all = 0, any = 0, rest = 0;
  emulator::launch(1, 100, 0, 1, [&] {
    int c = __syncthreads_count(threadIdx.x % 3 == 0), a = __syncthreads_and(threadIdx.x != 5),
        o = __syncthreads_or(threadIdx.x == 99);
    if (threadIdx.x == 0) count = c, all = a, any = o;
    if (threadIdx.x >= 40) return;  // some of warp 1, all of warps 2 and 3
    __syncthreads();
    rest++;
  });
  FOVEA_CHECK(count == 34 && !all && any && rest == 40, "%d %d %d %d", count, all, any, rest);
}

FOVEA_TEST(emulator_shuffles) {
  std::vector<int> got(32 * 6);
  emulator::launch(1, 32, 0, 1, [&] {
    int lane = int(threadIdx.x), *to = &got[size_t(lane) * 6];
    to[0] = __shfl_sync(~0u, lane, lane + 1, 8);
    to[1] = __shfl_up_sync(~0u, lane, 3);
    to[2] = __shfl_down_sync(~0u, lane, 3, 16);
    to[3] = __shfl_xor_sync(~0u, lane, 16);
    to[4] = int(__shfl_xor_sync(~0u, double(lane), 1, 2));
    to[5] = int(__shfl_sync(~0u, 1000000000000 + lane, 7) - 1000000000000);
  });
  for (int lane = 0; lane < 32; lane++) {
    const int* at = &got[size_t(lane) * 6];
    const int expected[] = {lane / 8 * 8 + (lane + 1) % 8,
                            lane < 3 ? lane : lane - 3,
                            lane % 16 + 3 < 16 ? lane + 3 : lane,
                            lane ^ 16,
                            lane ^ 1,
                            7};
    for (int i = 0; i < 6; i++) FOVEA_CHECK(at[i] == expected[i], "lane %d, shuffle %d: %d", lane, i, at[i]);
  }
}

FOVEA_TEST(emulator_votes_and_reductions) {
  unsigned ballot = 0, sum = 0, match = 0;
  int any = 1, all = 0, smallest = 0;
  emulator::launch(1, 32, 0, 1, [&] {
    unsigned b = __ballot_sync(~0u, threadIdx.x % 2), s = __reduce_add_sync(~0u, threadIdx.x),
             m = __match_any_sync(~0u, threadIdx.x / 4);
    int none = __any_sync(~0u, threadIdx.x > 31), every = __all_sync(~0u, threadIdx.x < 32),
        low = __reduce_min_sync(~0u, -int(threadIdx.x));
    if (threadIdx.x == 9) ballot = b, sum = s, match = m, any = none, all = every, smallest = low;
  });
  FOVEA_CHECK(ballot == 0xaaaaaaaau && sum == 496 && match == 0xf00u, "%x %u %x", ballot, sum, match);
  FOVEA_CHECK(!any && all && smallest == -31, "%d %d %d", any, all, smallest);
}

FOVEA_TEST(emulator_masks_of_divergent_lanes) {
  std::vector<int> got(32);
  emulator::launch(1, 32, 0, 1, [&] {
    int lane = int(threadIdx.x), value = lane;
    if (lane >= 20) return;  // a full mask afterwards means those that are left
    unsigned half = lane < 10 ? 0x3ffu : 0xffc00u;
    if (lane < 10) value = __shfl_sync(half, lane, 4);
    else value = __shfl_sync(half, lane, 14);
    __syncwarp();
    got[size_t(lane)] = value + __shfl_sync(~0u, value, 0) + 1000 * (__ballot_sync(~0u, 1) == 0xfffffu);
  });
  for (int lane = 0; lane < 20; lane++)
    FOVEA_CHECK(got[size_t(lane)] == 1000 + (lane < 10 ? 4 : 14) + 4, "lane %d: %d", lane, got[size_t(lane)]);
}

FOVEA_TEST(emulator_atomics) {
  int sum = 0, largest = -5;
  unsigned bits = 0;
  unsigned long long wide = 0;
  float real = 0;
  emulator::launch(10, 200, 0, 1, [&] {
    int i = int(blockIdx.x * 200 + threadIdx.x);
    atomicAdd(&sum, i), atomicAdd(&wide, 1ull << 32), atomicAdd(&real, 0.5f), atomicMax(&largest, i);
    atomicOr(&bits, 1u << (i % 32));
  });
  FOVEA_CHECK(sum == 1999000 && largest == 1999 && bits == ~0u, "%d %d %x", sum, largest, bits);
  FOVEA_CHECK(wide == 2000ull << 32 && real == 1000, "%llu %g", wide, real);
  int word = 3;
  emulator::launch(1, 1, 0, 1, [&] { sum = atomicCAS(&word, 3, 7) + atomicExch(&word, 9) * 10; });
  FOVEA_CHECK(sum == 73 && word == 9, "%d %d", sum, word);
}

FOVEA_TEST(emulator_reports_deadlock) {
  std::string text = failure_of(dim3(2, 2), 64, 0, [] {
    if (threadIdx.x < 32) __syncthreads();
    else __shfl_sync(~0u, 1, threadIdx.x == 40 ? (__syncthreads(), 1) : 0);
  });
  FOVEA_CHECK(contains(text, "deadlock") && contains(text, "block ("), "%s", text.c_str());
  FOVEA_CHECK(contains(text, "warp 0 lanes ffffffff wait at __syncthreads"), "%s", text.c_str());
  FOVEA_CHECK(contains(text, "warp 1 lanes fffffeff wait at __shfl_sync"), "%s", text.c_str());
  int ran = 0;  // and the next launch starts afresh
  emulator::launch(2, 64, 0, 1, [&] { __syncthreads(), ran++; });
  FOVEA_CHECK(ran == 128, "%d", ran);
}

FOVEA_TEST(emulator_reports_misuse_of_masks) {
  std::string text = failure_of(1, 32, 0, [] {
    if (threadIdx.x < 16) __syncwarp();
    else __shfl_sync(~0u, 1, 0);
  });
  FOVEA_CHECK(contains(text, "meets"), "%s", text.c_str());
  text = failure_of(1, 32, 0, [] { __shfl_sync(0xffffu, 1, 0); });
  FOVEA_CHECK(contains(text, "lacks the calling lane"), "%s", text.c_str());
}

FOVEA_TEST(emulator_poisons_and_guards_shared_memory) {
  bool poisoned = true;
  emulator::launch(8, 1, 400, 1, [&] {
    for (int i = 0; i < 100; i++) {
      float x = shared_as<float>()[i];
      poisoned &= isnan(x) || x > 1e38f;
      shared_as<float>()[i] = 1;
    }
  });
  FOVEA_CHECK(poisoned, "a block sees what another left");
#if !defined(__SANITIZE_ADDRESS__)  // which stops the process
  for (int at : {100, -1}) {
    std::string text = failure_of(4, 32, 400, [at] { shared_as<int>()[at] = 1; });
    FOVEA_CHECK(contains(text, "outside of its shared memory"), "%d: %s", at, text.c_str());
  }
#endif
}

FOVEA_TEST(emulator_refuses_launches) {
  auto nothing = [] {};
  FOVEA_CHECK(contains(failure_of(1, 1025, 0, nothing), "block is too large"), "accepted");
  FOVEA_CHECK(contains(failure_of(dim3(1, 65536), 1, 0, nothing), "grid is too large"), "accepted");
  FOVEA_CHECK(contains(failure_of(1, 1, 228 << 10, nothing), "too much shared memory"), "accepted");
  FOVEA_CHECK(contains(failure_of(3, 1, 0, nothing, 2), "multiple of the cluster"), "accepted");
  emulator::set_capability(86);
  FOVEA_CHECK(contains(failure_of(2, 1, 0, nothing, 2), "clusters need sm_90"), "accepted");
  FOVEA_CHECK(contains(failure_of(1, 1, 100 << 10, nothing), "too much shared memory"), "accepted");
  FOVEA_CHECK(contains(failure_of(1, 1, 8, [] { mbarrier_init(shared_as<uint64_t>(), 1); }), "needs sm_90"),
              "accepted");
  emulator::set_capability(0);
}

FOVEA_TEST(emulator_exceptions_leave_the_kernel) {
  std::string text = failure_of(100, 256, 0, [] {
    if (blockIdx.x == 50 && threadIdx.x == 77) throw std::runtime_error("from the kernel");
    __syncthreads();
  });
  FOVEA_CHECK(text == "from the kernel", "%s", text.c_str());
}

FOVEA_TEST(emulator_host_threads_are_independent) {
  std::vector<int> sums(4);
  std::vector<std::thread> hosts;
  for (int& sum : sums)
    hosts.emplace_back([&sum] {
      for (int i = 0; i < 20; i++)
        emulator::launch(5, 128, 512, 1, [&sum] {
          shared_as<int>()[threadIdx.x] = 1;
          __syncthreads();
          if (threadIdx.x == 0) sum += std::accumulate(shared_as<int>(), shared_as<int>() + 128, 0);
        });
    });
  for (std::thread& host : hosts) host.join();
  for (int sum : sums) FOVEA_CHECK(sum == 20 * 5 * 128, "%d", sum);
}

FOVEA_TEST(emulator_many_threads) {
  int64_t sum = 0;
  emulator::launch(4096, 256, 0, 1, [&] { sum += threadIdx.x; });
  FOVEA_CHECK(sum == 4096ll * 255 * 128, "%lld", static_cast<long long>(sum));
}

}  // namespace fovea::test
