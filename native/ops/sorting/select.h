// Keys whose order is that of the elements (NaN above everything, -0 equal to +0), a radix sort of (key, position),
// byte by byte from the lowest, which keeps equal keys in order, and the selection of the k smallest keys.
#pragma once
#include "core/arithmetic.h"
#include "cpu/simd.h"
#include "ops/sorting/workspace.h"

namespace fovea::FOVEA_ISA {
namespace {

// Keys, ascending, from the bits of an element.
template <class Bits, Bits kInfinity>
struct FloatKey {
  using Raw = Bits;
  FOVEA_INLINE static Bits of(Bits bits) {
    constexpr Bits kSign = Bits(Bits(1) << (8 * sizeof(Bits) - 1));
    Bits magnitude = Bits(bits & Bits(~kSign));
    Bits key = bits & kSign ? Bits(~bits) : Bits(bits | kSign);
    key = magnitude == 0 ? kSign : key;
    return magnitude > kInfinity ? Bits(~Bits(0)) : key;
  }
};
template <class Bits>
struct SignedKey {
  using Raw = Bits;
  FOVEA_INLINE static Bits of(Bits bits) { return Bits(bits ^ Bits(Bits(1) << (8 * sizeof(Bits) - 1))); }
};
struct ByteKey {
  using Raw = uint8_t;
  FOVEA_INLINE static uint8_t of(uint8_t bits) { return bits; }
};
template <class Body>
void dispatch_key(Dtype t, Body body) {
  switch (t) {
    case Dtype::f64: return body.template operator()<FloatKey<uint64_t, 0x7ff0000000000000u>>();
    case Dtype::f16: return body.template operator()<FloatKey<uint16_t, 0x7c00>>();
    case Dtype::bf16: return body.template operator()<FloatKey<uint16_t, 0x7f80>>();
    case Dtype::i32: return body.template operator()<SignedKey<uint32_t>>();
    case Dtype::i64: return body.template operator()<SignedKey<uint64_t>>();
    case Dtype::i8: return body.template operator()<SignedKey<uint8_t>>();
    case Dtype::u8:
    case Dtype::boolean: return body.template operator()<ByteKey>();
    default: return body.template operator()<FloatKey<uint32_t, 0x7f800000>>();
  }
}
// body.operator()<Key, Item>()
template <class Body>
void dispatch_item(Dtype t, int64_t n, Body body) {
  dispatch_key(t, [&]<class Key>() {
    if constexpr (sizeof(typename Key::Raw) < 8) {
      if (sorts_narrow(t, n)) return body.template operator()<Key, NarrowItem>();
    }
    body.template operator()<Key, WideItem>();
  });
}

// Stable.
template <class Item>
void insertion_sort(Item* items, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    Item item = items[i];
    int64_t j = i;
    for (; j > 0 && items[j - 1].key > item.key; j--) items[j] = items[j - 1];
    items[j] = item;
  }
}

// Stable; the lowest `bytes` bytes of the keys count. Returns where the result is: items or other.
template <class Item>
Item* radix_sort(Item* items, Item* other, int64_t n, int bytes) {
  if (n <= 64) return insertion_sort(items, n), items;
  int64_t counts[sizeof(Item::key)][256];
  for (int b = 0; b < bytes; b++) __builtin_memset(counts[b], 0, sizeof counts[b]);
  for (int64_t i = 0; i < n; i++)
    for (int b = 0; b < bytes; b++) counts[b][items[i].key >> (8 * b) & 255]++;
  for (int b = 0; b < bytes; b++) {
    int64_t* next = counts[b];
    if (next[items[0].key >> (8 * b) & 255] == n) continue;  // all share this byte
    int64_t sum = 0;
    for (int digit = 0; digit < 256; digit++) {
      int64_t count = next[digit];
      next[digit] = sum;
      sum += count;
    }
    for (int64_t i = 0; i < n; i++) other[next[items[i].key >> (8 * b) & 255]++] = items[i];
    Item* swap = items;
    items = other;
    other = swap;
  }
  return items;
}

// The best k of a row so far, and some that came after the last tidying up.
template <class Key, class Item>
class Candidates {
 public:
  using Raw = typename Key::Raw;
  Candidates(Item* items, int64_t k) : items_(items), k_(k), capacity_(topk_candidates(k)) {}
  // keys[i] is that of position first + i. Positions only grow, so an equal key that comes later loses.
  FOVEA_INLINE void add(const Raw* keys, int64_t count, int64_t first) {
    constexpr int64_t kLook = 64;
    for (int64_t begin = 0; begin < count; begin += kLook) {
      const int64_t end = min_of(count, begin + kLook);
      if (full_) {
        Raw least = Raw(~Raw(0));  // by vectors
        for (int64_t i = begin; i < end; i++) least = keys[i] < least ? keys[i] : least;
        if (least >= worst_) continue;
      }
      for (int64_t i = begin; i < end; i++)
        if (!full_ || keys[i] < worst_) push(keys[i], first + i);
    }
  }
  // The best k, in order.
  const Item* sorted() { return keep_best(), items_; }

 private:
  void push(Raw key, int64_t position) {
    items_[count_].key = key;
    items_[count_].position = decltype(Item::position)(position);
    if (++count_ < capacity_) return;
    keep_best();
    full_ = true;
    worst_ = Raw(items_[k_ - 1].key);
  }
  void keep_best() {
    const Item* best = radix_sort(items_, items_ + capacity_, count_, sizeof(Raw));
    count_ = min_of(count_, k_);
    if (best != items_) __builtin_memcpy(items_, best, size_t(count_) * sizeof(Item));
  }
  Item* items_;
  int64_t k_, capacity_, count_ = 0;
  bool full_ = false;
  Raw worst_ = 0;
};

}  // namespace
}  // namespace fovea::FOVEA_ISA
