// Ops that read or write where an index tensor says:
//
//   embedding           y[i, :] = weight[ids[i], :]
//   embeddingBackward   dweight[r, :] = sum of dy[i, :] over ids[i] = r
//   gather              y[.., j] = x[.., index[.., j]]
//   scatter_            y[.., index[.., j]] = src[.., j];  scatterAdd_ adds
//   indexSelect         y[:, j, :] = x[:, index[j], :]
//   indexAdd_           y[:, index[j], :] += src[:, j, :]
//   countNonzero        how many elements are not 0
//   nonzero             where they are, in row-major order
//
// An index outside of its axis fails, negative ones too. Where several sources meet in one place they are taken in
// order, by one thread, so that results depend neither on the thread count nor on timing.
#include "core/ragged.h"
#include "cpu/rows.h"
#include "ops/indexing/attrs.h"
#include "ops/indexing/workspace.h"

namespace fovea::FOVEA_ISA {
namespace {

// Reads and checks indices of any integer type.
class Indices {
 public:
  Indices(const Call& call, const View& v, int64_t size, const char* name)
      : call_(call), data_(v.data), dtype_(v.dtype), size_(size), name_(name) {}
  // At an element offset.
  FOVEA_INLINE int64_t operator()(int64_t offset) const {
    const int64_t index = integer_at(data_, dtype_, offset);
    if (uint64_t(index) >= uint64_t(size_))
      call_.fail("FOVEA_INDEX", "%s holds %lld, out of range for an axis of %lld; indices run from 0 to size - 1",
                 name_, static_cast<long long>(index), static_cast<long long>(size_));
    return index;
  }

 private:
  const Call& call_;
  const std::byte* data_;
  Dtype dtype_;
  int64_t size_;
  const char* name_;
};

// Ops that only move elements work on bytes: body.operator()<T>() with an integer as wide as an element.
template <class Body>
FOVEA_INLINE void dispatch_width(Dtype t, Body body) {
  switch (bytes_of(t)) {
    case 1: return body.template operator()<uint8_t>();
    case 2: return body.template operator()<uint16_t>();
    case 4: return body.template operator()<uint32_t>();
    default: return body.template operator()<uint64_t>();
  }
}
// Types that can be added: integers as unsigned, so that overflow wraps.
template <class Body>
FOVEA_INLINE void dispatch_add(Dtype t, Body body) {
  switch (t) {
    case Dtype::i32: return body.template operator()<uint32_t>();
    case Dtype::i64: return body.template operator()<uint64_t>();
    case Dtype::u8:
    case Dtype::i8: return body.template operator()<uint8_t>();
    default: return dispatch_float(t, body);
  }
}
template <class T>
FOVEA_INLINE void add_to(T& y, T x) {
  if constexpr (kSame<T, Half>) y = to_half(to_float(y) + to_float(x));
  else if constexpr (kSame<T, Bfloat16>) y = to_bfloat16(to_float(y) + to_float(x));
  else y = T(y + x);
}

// ---- embedding

// One row of whole vectors past the caches; `next` is the row to come, in which memory would be waited for.
FOVEA_INLINE void copy_row_past_caches(std::byte* to, const std::byte* from, const std::byte* next, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kVectorBytes) {
    __builtin_prefetch(next + i);
    store_past_caches(reinterpret_cast<float*>(to + i), load(reinterpret_cast<const float*>(from + i)));
  }
}

void embedding(Call& call, const NoAttrs&) {
  const View &weight = call.in[0], &ids = call.in[1], &y = call.out[0];
  const int64_t d = weight.dim(1), bytes = d * int64_t(bytes_of(weight.dtype)),
                step = weight.stride(0) * int64_t(bytes_of(weight.dtype));
  const Axes axes = leading_axes(ids, 0);
  const Indices index(call, ids, weight.dim(0), "ids");
  const bool past_caches = written_past_caches(y, d);
  call.parallel.for_range(ids.size(), row_grain(bytes / 4), [&](int64_t begin, int64_t end) {
    auto row = [&](int64_t i) { return weight.data + index(offset_of(axes, i)) * step; };
    if (!past_caches) {
      for (int64_t i = begin; i < end; i++) __builtin_memcpy(y.data + i * bytes, row(i), size_t(bytes));
      return;
    }
    const std::byte* next = row(begin);
    for (int64_t i = begin; i < end; i++) {
      const std::byte* from = next;
      if (i + 1 < end) next = row(i + 1);
      copy_row_past_caches(y.data + i * bytes, from, next, bytes);
    }
    fence_stores();
  });
}

// Counting sort: the positions of row r's ids are order[start[r]] .. order[start[r + 1] - 1], ascending.
void sort_ids(const Indices& index, int64_t n, int64_t rows, int64_t* start, int64_t* order) {
  for (int64_t r = 0; r <= rows; r++) start[r] = 0;
  for (int64_t i = 0; i < n; i++) start[index(i) + 1]++;
  for (int64_t r = 0; r < rows; r++) start[r + 1] += start[r];
  for (int64_t i = 0; i < n; i++) order[start[index(i)]++] = i;
  for (int64_t r = rows; r > 0; r--) start[r] = start[r - 1];  // each start had moved to its end
  start[0] = 0;
}

// total = sum over positions of dy[position, at .. at + count), 64 at a time so that rounding errors stay small.
template <class A>
void sum_rows(const Source<A>& dy, int64_t d, int64_t at, int64_t count, const int64_t* positions, int64_t n,
              A* total) {
  Buffer<A> buffer, local;
  for (int64_t k = 0; k < count; k++) total[k] = 0;
  for (int64_t first = 0; first < n; first += 64) {
    for (int64_t k = 0; k < count; k++) local[k] = 0;
    for (int64_t i = first; i < min_of(n, first + 64); i++) {
      const A* row = dy.block(positions[i] * d + at, count, buffer);
      for (int64_t k = 0; k < count; k++) local[k] += row[k];
    }
    for (int64_t k = 0; k < count; k++) total[k] += local[k];
  }
}

void embedding_backward(Call& call, const RowsAttrs& attrs) {
  const View &ids = call.in[0], &gradient = call.in[1], &out = call.out[0];
  const int64_t rows = out.dim(0), d = out.dim(1), n = ids.size(), bytes = d * int64_t(bytes_of(out.dtype));
  int64_t *start = call.scratch<int64_t>(), *order = start + rows + 1;
  sort_ids(Indices(call, ids, rows, "ids"), n, rows, start, order);
  dispatch_compute(out.dtype, [&]<class A>() {
    const Source<A> dy(gradient);
    const Target<A> dweight(out);
    call.parallel.for_range(rows, row_grain(d), [&](int64_t begin, int64_t end) {
      Buffer<A> total;
      for (int64_t r = begin; r < end; r++) {
        int64_t uses = r == attrs.paddingIndex ? 0 : start[r + 1] - start[r];
        if (uses == 0) {
          __builtin_memset(out.data + r * bytes, 0, size_t(bytes));
          continue;
        }
        for_blocks(d, [&](int64_t at, int64_t count) {
          sum_rows(dy, d, at, count, order + start[r], uses, total.value);
          dweight.put(total, r * d + at, count);
        });
      }
    });
  });
}

// ---- gather and scatter along the last axis

void gather(Call& call, const NoAttrs&) {
  const View &x = call.in[0], &index = call.in[1];
  const int64_t m = row_length(index), x_step = row_stride(x), index_step = row_stride(index);
  const Axes x_axes = leading_axes(x, 1), index_axes = leading_axes(index, 1);
  const Indices at(call, index, row_length(x), "index");
  dispatch_width(x.dtype, [&]<class T>() {
    const T* from = x.as<T>();
    T* y = call.out[0].as<T>();
    call.parallel.for_range(index.size(), kGrain / 2, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin / m; row * m < end; row++) {
        const int64_t x_row = offset_of(x_axes, row), index_row = offset_of(index_axes, row);
        for (int64_t j = max_of(begin - row * m, 0); j < min_of(m, end - row * m); j++)
          y[row * m + j] = from[x_row + at(index_row + j * index_step) * x_step];
      }
    });
  });
}

// put(y's element, src's element) for every index, row by row, in order.
template <class T, class Put>
void scatter_rows(Call& call, Put put) {
  const View &y = call.in[0], &index = call.in[1], &src = call.in[2];
  const int64_t m = row_length(index), y_step = row_stride(y), index_step = row_stride(index),
                src_step = row_stride(src);
  const Axes y_axes = leading_axes(y, 1), index_axes = leading_axes(index, 1), src_axes = leading_axes(src, 1);
  const Indices at(call, index, row_length(y), "index");
  call.parallel.for_range(leading_size(y), row_grain(2 * m), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      T* to = y.as<T>() + offset_of(y_axes, row);
      const T* from = src.as<T>() + offset_of(src_axes, row);
      const int64_t index_row = offset_of(index_axes, row);
      for (int64_t j = 0; j < m; j++) put(to[at(index_row + j * index_step) * y_step], from[j * src_step]);
    }
  });
}
void scatter(Call& call, const NoAttrs&) {
  dispatch_width(call.in[0].dtype, [&]<class T>() { scatter_rows<T>(call, [](T& y, T x) { y = x; }); });
}
void scatter_add(Call& call, const NoAttrs&) {
  dispatch_add(call.in[0].dtype, [&]<class T>() { scatter_rows<T>(call, [](T& y, T x) { add_to(y, x); }); });
}

// ---- whole slices

void index_select(Call& call, const NoAttrs&) {
  const View &x = call.in[0], &index = call.in[1];
  const int64_t m = index.dim(0), inner = x.dim(2), step = x.stride(2);
  const Indices at(call, index, x.dim(1), "index");
  dispatch_width(x.dtype, [&]<class T>() {
    T* y = call.out[0].as<T>();
    call.parallel.for_range(x.dim(0) * m, row_grain(inner), [&](int64_t begin, int64_t end) {
      for (int64_t slice = begin; slice < end; slice++) {
        const T* from = x.as<T>() + slice / m * x.stride(0) + at(slice % m * index.stride(0)) * x.stride(1);
        T* to = y + slice * inner;
        if (step == 1) __builtin_memcpy(to, from, size_t(inner) * sizeof(T));
        else
          for (int64_t i = 0; i < inner; i++) to[i] = from[i * step];
      }
    });
  });
}

// Cut along the outer and inner axes only: slices that share an index are added in order by one thread.
void index_add(Call& call, const NoAttrs&) {
  const View &y = call.in[0], &index = call.in[1], &src = call.in[2];
  const int64_t m = index.dim(0), inner = y.dim(2), strips = ceil_div(inner, kBlock);
  const Indices at(call, index, y.dim(1), "index");
  dispatch_add(y.dtype, [&]<class T>() {
    call.parallel.for_range(y.dim(0) * strips, row_grain(m * min_of(inner, kBlock)), [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; chunk++) {
        const int64_t outer = chunk / strips, first = chunk % strips * kBlock, last = min_of(inner, first + kBlock);
        for (int64_t j = 0; j < m; j++) {
          T* to = y.as<T>() + outer * y.stride(0) + at(j * index.stride(0)) * y.stride(1);
          const T* from = src.as<T>() + outer * src.stride(0) + j * src.stride(1);
          for (int64_t i = first; i < last; i++) add_to(to[i * y.stride(2)], from[i * src.stride(2)]);
        }
      }
    });
  });
}

// ---- nonzero

// An element is zero if all of its bits are, but for the sign of a float.
FOVEA_INLINE uint64_t sign_bit(Dtype t) { return set_of(t) & kFloatTypes ? uint64_t(1) << (8 * bytes_of(t) - 1) : 0; }

// body(position) for every nonzero element in [begin, end) of the row-major order.
template <class T, class Body>
FOVEA_INLINE void each_nonzero(const View& x, const Axes& axes, int64_t begin, int64_t end, Body body) {
  const T mask = T(~sign_bit(x.dtype));
  const int64_t n = row_length(x), step = row_stride(x);
  for (int64_t row = begin / max_of(n, 1); row * n < end; row++) {
    const T* from = x.as<T>() + offset_of(axes, row);
    for (int64_t j = max_of(begin - row * n, 0); j < min_of(n, end - row * n); j++)
      if (T(from[j * step] & mask)) body(row * n + j);
  }
}

constexpr int64_t kCountChunks = 64;
// counts[chunk] of kCountChunks equal parts of x.
void count_chunks(Call& call, int64_t part, int64_t* counts) {
  const View& x = call.in[0];
  const Axes axes = leading_axes(x, 1);
  const int64_t n = x.size();
  dispatch_width(x.dtype, [&]<class T>() {
    call.parallel.for_range(kCountChunks, max_of(1, kGrain / max_of(part, 1)), [&](int64_t first, int64_t last) {
      for (int64_t chunk = first; chunk < last; chunk++) {
        int64_t count = 0;
        each_nonzero<T>(x, axes, min_of(n, chunk * part), min_of(n, (chunk + 1) * part),
                        [&](int64_t) FOVEA_FLAT { count++; });
        counts[chunk] = count;
      }
    });
  });
}

void count_nonzero(Call& call, const NoAttrs&) {
  int64_t counts[kCountChunks], total = 0;
  count_chunks(call, ceil_div(call.in[0].size(), kCountChunks), counts);
  for (int64_t count : counts) total += count;
  *call.out[0].as<int64_t>() = total;
}

void nonzero(Call& call, const NonzeroAttrs& attrs) {
  const View& x = call.in[0];
  const int64_t n = x.size(), part = ceil_div(n, kCountChunks);
  int64_t start[kCountChunks + 1] = {};
  if (attrs.rank != x.rank)
    call.fail("FOVEA_ARGUMENT", "rank is %lld, but x has %d axes", static_cast<long long>(attrs.rank), x.rank);
  count_chunks(call, part, start + 1);
  for (int64_t chunk = 0; chunk < kCountChunks; chunk++) start[chunk + 1] += start[chunk];
  if (start[kCountChunks] != attrs.count)
    call.fail("FOVEA_ARGUMENT", "count is %lld, but x has %lld nonzero elements; take it from countNonzero",
              static_cast<long long>(attrs.count), static_cast<long long>(start[kCountChunks]));
  const Axes axes = leading_axes(x, 1);
  int64_t* out = call.out[0].as<int64_t>();
  dispatch_width(x.dtype, [&]<class T>() {
    call.parallel.for_range(kCountChunks, max_of(1, kGrain / max_of(part, 1)), [&](int64_t first, int64_t last) {
      for (int64_t chunk = first; chunk < last; chunk++) {
        int64_t* to = out + start[chunk] * x.rank;
        each_nonzero<T>(x, axes, min_of(n, chunk * part), min_of(n, (chunk + 1) * part),
                        [&](int64_t position) FOVEA_FLAT {
                          for (int axis = x.rank - 1; axis >= 0; axis--) {
                            to[axis] = position % x.shape[axis];
                            position /= x.shape[axis];
                          }
                          to += x.rank;
                        });
      }
    });
  });
}

}  // namespace

FOVEA_KERNELS(indexing, FOVEA_KERNEL("embedding", embedding, NoAttrs),
              FOVEA_KERNEL("embeddingBackward", embedding_backward, RowsAttrs), FOVEA_KERNEL("gather", gather, NoAttrs),
              FOVEA_KERNEL("scatter_", scatter, NoAttrs), FOVEA_KERNEL("scatterAdd_", scatter_add, NoAttrs),
              FOVEA_KERNEL("indexSelect", index_select, NoAttrs), FOVEA_KERNEL("indexAdd_", index_add, NoAttrs),
              FOVEA_KERNEL("countNonzero", count_nonzero, NoAttrs), FOVEA_KERNEL("nonzero", nonzero, NonzeroAttrs))

}  // namespace fovea::FOVEA_ISA
