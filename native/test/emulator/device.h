// What CUDA C++ offers a kernel beyond C++: barriers, warp-wide operations, atomics, cached loads and stores.
#pragma once
#include <cstring>
#include <type_traits>

#include "test/emulator/machine.h"

namespace fovea::emulator {

// An undefined value: what a shuffle gives that reads from a lane which takes no part.
template <class T>
T poisoned() {
  T value;
  std::memset(&value, 0xff, sizeof value);
  return value;
}

template <class T>
struct Shuffle {
  T value, result;
  int source;
};
// `source`: a lane, or -1 for the value of the calling lane itself.
template <class T>
T shuffle(const char* name, uint32_t mask, T value, int source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  Shuffle<T> own{value, poisoned<T>(), source < 0 ? current->lane : source};
  meet_warp(name, mask, &own, [](void* const* arguments, uint32_t lanes) {
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
      auto& to = *static_cast<Shuffle<T>*>(arguments[__builtin_ctz(rest)]);
      if (lanes >> to.source & 1) to.result = static_cast<Shuffle<T>*>(arguments[to.source])->value;
    }
  });
  return own.result;
}
inline void check_width(int width) {
  if (width < 1 || width > kWarpSize || (width & (width - 1))) fail("shuffle: width %d", width);
}

// Reduces one value per lane to one result for all.
template <class T, class Combine>
T reduce_warp(const char* name, uint32_t mask, T value, Combine) {
  meet_warp(name, mask, &value, [](void* const* arguments, uint32_t lanes) {
    T result = *static_cast<T*>(arguments[__builtin_ctz(lanes)]);
    for (uint32_t rest = lanes & (lanes - 1); rest; rest &= rest - 1)
      result = Combine{}(result, *static_cast<T*>(arguments[__builtin_ctz(rest)]));
    for (uint32_t rest = lanes; rest; rest &= rest - 1) *static_cast<T*>(arguments[__builtin_ctz(rest)]) = result;
  });
  return value;
}
struct Sum {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Smaller {
  template <class T>
  T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct Larger {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};
struct BitAnd {
  unsigned operator()(unsigned a, unsigned b) const { return a & b; }
};
struct BitOr {
  unsigned operator()(unsigned a, unsigned b) const { return a | b; }
};
struct BitXor {
  unsigned operator()(unsigned a, unsigned b) const { return a ^ b; }
};
template <class T>
concept Word = std::is_same_v<T, int> || std::is_same_v<T, unsigned>;

// Read, combine, write as one step; host threads may share memory, too.
template <class T, class Combine>
T atomically(T* at, Combine combine) {
  T old, next;
  __atomic_load(at, &old, __ATOMIC_RELAXED);
  do next = combine(old);
  while (!__atomic_compare_exchange(at, &old, &next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
template <class T, class... Choices>
constexpr bool kOneOf = (std::is_same_v<T, Choices> || ...);
// The types that the device has an instruction for.
template <class T>
concept Addable = kOneOf<T, int, unsigned, unsigned long long, float, double>;
template <class T>
concept Comparable = kOneOf<T, int, unsigned, long long, unsigned long long>;
template <class T>
concept Bits = kOneOf<T, int, unsigned, unsigned long long>;
template <class T>
concept Exchangeable = Bits<T> || std::is_same_v<T, float>;
template <class T>
using Same = std::type_identity_t<T>;

}  // namespace fovea::emulator

// ---- barriers and fences

inline int __syncthreads_count(int vote) {
  using namespace fovea::emulator;
  return arrive_and_wait(current->block->barriers[0], 0, "__syncthreads", 0, vote != 0);
}
inline void __syncthreads() { __syncthreads_count(0); }
inline int __syncthreads_or(int vote) { return __syncthreads_count(vote) > 0; }
inline int __syncthreads_and(int vote) { return __syncthreads_count(!vote) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  fovea::emulator::meet_warp("__syncwarp", mask, nullptr, nullptr);
}
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
[[noreturn]] inline void __trap() { fovea::emulator::fail("__trap"); }

// ---- warp-wide operations

// Lanes count as converged only with themselves, which is all that the programming model promises.
inline unsigned __activemask() { return 1u << fovea::emulator::current->lane; }

// Integers narrower than 32 bits are promoted, as the overloads of CUDA do.
template <class T>
auto __shfl_sync(unsigned mask, T value, int source, int width = warpSize) {
  using namespace fovea::emulator;
  check_width(width);
  int lane = current->lane;
  return shuffle("__shfl_sync", mask, +value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
auto __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  using namespace fovea::emulator;
  check_width(width);
  int lane = current->lane, source = lane - int(delta);
  return shuffle("__shfl_up_sync", mask, +value, source < (lane & ~(width - 1)) ? -1 : source);
}
template <class T>
auto __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  using namespace fovea::emulator;
  check_width(width);
  int lane = current->lane, source = lane + int(delta);
  return shuffle("__shfl_down_sync", mask, +value, source > (lane | (width - 1)) ? -1 : source);
}
template <class T>
auto __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize) {
  using namespace fovea::emulator;
  check_width(width);
  int lane = current->lane, source = lane ^ lane_mask;
  return shuffle("__shfl_xor_sync", mask, +value, source > (lane | (width - 1)) || source < 0 ? -1 : source);
}

inline unsigned __ballot_sync(unsigned mask, int vote) {
  using namespace fovea::emulator;
  return reduce_warp("__ballot_sync", mask, vote ? 1u << current->lane : 0u, BitOr{});
}
inline int __any_sync(unsigned mask, int vote) {
  using namespace fovea::emulator;
  return int(reduce_warp("__any_sync", mask, unsigned(vote != 0), Larger{}));
}
inline int __all_sync(unsigned mask, int vote) {
  using namespace fovea::emulator;
  return int(reduce_warp("__all_sync", mask, unsigned(vote != 0), Smaller{}));
}
template <fovea::emulator::Word T>
T __reduce_add_sync(unsigned mask, T value) {
  return fovea::emulator::reduce_warp("__reduce_add_sync", mask, value, fovea::emulator::Sum{});
}
template <fovea::emulator::Word T>
T __reduce_min_sync(unsigned mask, T value) {
  return fovea::emulator::reduce_warp("__reduce_min_sync", mask, value, fovea::emulator::Smaller{});
}
template <fovea::emulator::Word T>
T __reduce_max_sync(unsigned mask, T value) {
  return fovea::emulator::reduce_warp("__reduce_max_sync", mask, value, fovea::emulator::Larger{});
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value) {
  return fovea::emulator::reduce_warp("__reduce_and_sync", mask, value, fovea::emulator::BitAnd{});
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  return fovea::emulator::reduce_warp("__reduce_or_sync", mask, value, fovea::emulator::BitOr{});
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value) {
  return fovea::emulator::reduce_warp("__reduce_xor_sync", mask, value, fovea::emulator::BitXor{});
}
// The lanes whose value has the same bits.
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  using namespace fovea::emulator;
  struct Match {
    T value;
    unsigned result;
  } own{value, 0};
  meet_warp("__match_any_sync", mask, &own, [](void* const* arguments, uint32_t lanes) {
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
      auto& to = *static_cast<Match*>(arguments[__builtin_ctz(rest)]);
      for (uint32_t each = lanes; each; each &= each - 1) {
        int lane = __builtin_ctz(each);
        if (std::memcmp(&to.value, &static_cast<Match*>(arguments[lane])->value, sizeof(T)) == 0)
          to.result |= 1u << lane;
      }
    }
  });
  return own.result;
}

// ---- atomics

template <fovea::emulator::Addable T>
T atomicAdd(T* at, fovea::emulator::Same<T> value) {
  return fovea::emulator::atomically(at, [&](T old) { return T(old + value); });
}
template <fovea::emulator::Bits T>
T atomicSub(T* at, fovea::emulator::Same<T> value)
  requires(sizeof(T) == 4)
{
  return fovea::emulator::atomically(at, [&](T old) { return T(old - value); });
}
template <fovea::emulator::Comparable T>
T atomicMax(T* at, fovea::emulator::Same<T> value) {
  return fovea::emulator::atomically(at, [&](T old) { return old < value ? value : old; });
}
template <fovea::emulator::Comparable T>
T atomicMin(T* at, fovea::emulator::Same<T> value) {
  return fovea::emulator::atomically(at, [&](T old) { return value < old ? value : old; });
}
template <fovea::emulator::Bits T>
T atomicAnd(T* at, fovea::emulator::Same<T> value) {
  return fovea::emulator::atomically(at, [&](T old) { return T(old & value); });
}
template <fovea::emulator::Bits T>
T atomicOr(T* at, fovea::emulator::Same<T> value) {
  return fovea::emulator::atomically(at, [&](T old) { return T(old | value); });
}
template <fovea::emulator::Bits T>
T atomicXor(T* at, fovea::emulator::Same<T> value) {
  return fovea::emulator::atomically(at, [&](T old) { return T(old ^ value); });
}
template <fovea::emulator::Exchangeable T>
T atomicExch(T* at, fovea::emulator::Same<T> value) {
  return fovea::emulator::atomically(at, [&](T) { return value; });
}
template <class T>
T atomicCAS(T* at, fovea::emulator::Same<T> expected, fovea::emulator::Same<T> value)
  requires(fovea::emulator::Bits<T> || std::is_same_v<T, unsigned short>)
{
  return fovea::emulator::atomically(at, [&](T old) { return old == expected ? value : old; });
}

// ---- loads and stores with a cache hint

template <class T>
T __ldg(const T* at) {
  return *at;
}
template <class T>
T __ldcs(const T* at) {
  return *at;
}
template <class T>
T __ldcg(const T* at) {
  return *at;
}
template <class T>
T __ldca(const T* at) {
  return *at;
}
template <class T>
T __ldlu(const T* at) {
  return *at;
}
template <class T>
void __stcs(T* at, fovea::emulator::Same<T> value) {
  *at = value;
}
template <class T>
void __stcg(T* at, fovea::emulator::Same<T> value) {
  *at = value;
}
template <class T>
void __stwt(T* at, fovea::emulator::Same<T> value) {
  *at = value;
}
