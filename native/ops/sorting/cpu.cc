// Stable sort and top-k along the last axis.
//
// Every element becomes an unsigned key whose order is the wanted one: NaN above everything, -0 equal to +0, all bits
// inverted where the largest come first. sort is a radix sort of (key, position), byte by byte from the lowest, which
// keeps equal keys in order. topk reads the row once, keeps what beats the worst of the best k so far, and sorts that.
#include "cpu/rows.h"
#include "ops/sorting/attrs.h"
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

// Moves the first `n` items' elements and positions to the outputs.
template <class Raw, class Item>
void put_items(const Item* items, int64_t n, const Raw* x, int64_t stride, Raw* values, int64_t* indices) {
  for (int64_t i = 0; i < n; i++) {
    values[i] = x[int64_t(items[i].position) * stride];
    indices[i] = int64_t(items[i].position);
  }
}

// body(row number, row offset in elements, thread) for all rows.
template <class Body>
void for_rows(Call& call, int64_t cost, Body body) {
  const Axes axes = leading_axes(call.in[0], 1);
  const int64_t rows = leading_size(call.in[0]), grain = row_grain(cost);
  if (rows == 0) return;
  call.parallel.for_each(ceil_div(rows, grain), [&](int64_t chunk, int thread) {
    for (int64_t row = chunk * grain; row < min_of(rows, (chunk + 1) * grain); row++)
      body(row, offset_of(axes, row), thread);
  });
}

void sort(Call& call, const SortAttrs& attrs) {
  const View& x = call.in[0];
  const int64_t n = row_length(x), stride = row_stride(x);
  int64_t* indices = call.out[1].as<int64_t>();
  dispatch_item(x.dtype, n, [&]<class Key, class Item>() {
    using Raw = typename Key::Raw;
    const Raw flip = attrs.descending ? Raw(~Raw(0)) : Raw(0);
    Raw* values = call.out[0].as<Raw>();
    for_rows(call, 8 * n, [&](int64_t row, int64_t offset, int thread) {
      const Raw* from = x.as<Raw>() + offset;
      Item* items = call.scratch<Item>() + 2 * n * thread;
      for (int64_t i = 0; i < n; i++) {
        items[i].key = Raw(Key::of(from[i * stride]) ^ flip);
        items[i].position = decltype(Item::position)(i);
      }
      put_items(radix_sort(items, items + n, n, sizeof(Raw)), n, from, stride, values + row * n, indices + row * n);
    });
  });
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
        bool any = false;
        for (int64_t i = begin; i < end; i++) any |= keys[i] < worst_;
        if (!any) continue;
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

void topk(Call& call, const TopkAttrs& attrs) {
  const View& x = call.in[0];
  const int64_t n = row_length(x), stride = row_stride(x), k = attrs.k;
  if (k < 0 || k > n)
    call.fail("FOVEA_ARGUMENT", "k is %lld, but the axis has %lld elements; k must lie between 0 and that",
              static_cast<long long>(k), static_cast<long long>(n));
  if (k == 0) return;
  int64_t* indices = call.out[1].as<int64_t>();
  dispatch_item(x.dtype, n, [&]<class Key, class Item>() {
    using Raw = typename Key::Raw;
    const Raw flip = attrs.largest ? Raw(~Raw(0)) : Raw(0);
    Raw* values = call.out[0].as<Raw>();
    for_rows(call, 2 * n, [&](int64_t row, int64_t offset, int thread) {
      const Raw* from = x.as<Raw>() + offset;
      Candidates<Key, Item> candidates(call.scratch<Item>() + 2 * topk_candidates(k) * thread, k);
      Raw keys[kBlock];
      for_blocks(n, [&](int64_t begin, int64_t count) {
        for (int64_t i = 0; i < count; i++) keys[i] = Raw(Key::of(from[(begin + i) * stride]) ^ flip);
        candidates.add(keys, count, begin);
      });
      put_items(candidates.sorted(), k, from, stride, values + row * k, indices + row * k);
    });
  });
}

}  // namespace

FOVEA_KERNELS(sorting, FOVEA_KERNEL("sort", sort, SortAttrs), FOVEA_KERNEL("topk", topk, TopkAttrs))

}  // namespace fovea::FOVEA_ISA
