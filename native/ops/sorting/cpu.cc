// Stable sort and top-k along the last axis.
//
// Every element becomes an unsigned key whose order is the wanted one (select.h), all bits inverted where the largest
// come first. sort is a radix sort of (key, position); topk reads the row once, keeps what beats the worst of the best
// k so far, and sorts that.
#include "cpu/rows.h"
#include "ops/sorting/attrs.h"
#include "ops/sorting/select.h"

namespace fovea::FOVEA_ISA {
namespace {

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
        const Raw* x_block = from + begin * stride;
        if (stride == 1)  // a loop of vectors
          for (int64_t i = 0; i < count; i++) keys[i] = Raw(Key::of(x_block[i]) ^ flip);
        else
          for (int64_t i = 0; i < count; i++) keys[i] = Raw(Key::of(x_block[i * stride]) ^ flip);
        candidates.add(keys, count, begin);
      });
      put_items(candidates.sorted(), k, from, stride, values + row * k, indices + row * k);
    });
  });
}

}  // namespace

FOVEA_KERNELS(sorting, FOVEA_KERNEL("sort", sort, SortAttrs), FOVEA_KERNEL("topk", topk, TopkAttrs))

}  // namespace fovea::FOVEA_ISA
