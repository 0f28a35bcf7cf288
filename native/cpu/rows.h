// What kernels over rows share: where rows lie, blocks of a row in the type that is computed in, and folds over them.
// Included by per-instruction-set files only (see cpu/simd.h).
//
// A row is read in blocks of kBlock elements. A block of float or double with stride 1 is used where it lies; anything
// else is converted into a buffer on the stack first, so that each kernel has one loop for all types and strides. What
// several passes read is converted once (KeptRow). Outputs too large for the caches are written past them.
#pragma once
#include "core/arithmetic.h"
#include "core/attrs.h"
#include "core/kernel.h"
#include "cpu/vectors.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kBlock = 1024;
// Work of about this many elements is worth waking a thread for.
constexpr int64_t kGrain = 32768;

// Elements on the stack, from a cache line on: a vector that lies in two takes twice as long.
template <class A, int64_t n = kBlock>
struct Buffer {
  alignas(64) A value[n];
  FOVEA_INLINE operator A*() { return value; }
};

// How many rows of `n` elements make up `kGrain`.
FOVEA_INLINE int64_t row_grain(int64_t n) { return max_of(1, kGrain / max_of(n, 1)); }

// The leading axes of a view, neighbours merged where one continues the other.
struct Axes {
  int rank = 0;
  int64_t shape[kMaxRank], strides[kMaxRank];
};
// All but the last `drop` axes of v.
FOVEA_INLINE Axes leading_axes(const View& v, int drop) {
  Axes a;
  for (int i = 0; i < v.rank - drop; i++) {
    if (v.shape[i] == 1) continue;
    if (a.rank > 0 && a.strides[a.rank - 1] == v.strides[i] * v.shape[i]) {
      a.shape[a.rank - 1] *= v.shape[i];
      a.strides[a.rank - 1] = v.strides[i];
    } else {
      a.shape[a.rank] = v.shape[i];
      a.strides[a.rank++] = v.strides[i];
    }
  }
  return a;
}
// The element offset of position `index` in row-major order.
FOVEA_INLINE int64_t offset_of(const Axes& a, int64_t index) {
  int64_t offset = 0;
  for (int i = a.rank - 1; i > 0; i--) {
    offset += index % a.shape[i] * a.strides[i];
    index /= a.shape[i];
  }
  return a.rank > 0 ? offset + index * a.strides[0] : 0;
}
// Size and stride of the last axis; a 0-d view is one row of one element.
FOVEA_INLINE int64_t row_length(const View& v) { return v.rank > 0 ? v.dim(-1) : 1; }
FOVEA_INLINE int64_t row_stride(const View& v) { return v.rank > 0 ? v.stride(-1) : 1; }
FOVEA_INLINE int64_t leading_size(const View& v) {
  int64_t n = 1;
  for (int i = 0; i + 1 < v.rank; i++) n *= v.shape[i];
  return n;
}

// ---- elements as A, whatever they are stored as
//
// Kernels are instantiated for the few types that are computed in; one call per block, through a pointer, converts from
// and to the type stored, so that float32, float16 and bfloat16 share their code.

template <class A, class T>
void load_strided(const std::byte* from, int64_t stride, int64_t count, A* to) {
  const T* x = reinterpret_cast<const T*>(from);
  if (stride == 1) return convert_row(x, to, count);
  for (int64_t i = 0; i < count; i++) convert_row(x + i * stride, to + i, 1);
}
template <class A, class T>
void store_dense(const A* from, std::byte* to, int64_t count) {
  convert_row(from, reinterpret_cast<T*>(to), count);
}
// body.operator()<T>() with the stored type of `t`, one that values of type A are made from. bool is stored as bytes.
template <class A, class Body>
FOVEA_INLINE void with_stored(Dtype t, Body body) {
  if constexpr (kSame<A, float>) {
    if (t == Dtype::f16) return body.template operator()<Half>();
    if (t == Dtype::bf16) return body.template operator()<Bfloat16>();
    body.template operator()<float>();
  } else if constexpr (kSame<A, int32_t>) {
    if (t == Dtype::i8) return body.template operator()<int8_t>();
    if (t == Dtype::u8 || t == Dtype::boolean) return body.template operator()<uint8_t>();
    body.template operator()<int32_t>();
  } else if constexpr (kSame<A, uint64_t>) {
    if (t == Dtype::i32) return body.template operator()<int32_t>();
    body.template operator()<uint64_t>();
  } else {
    body.template operator()<A>();
  }
}

template <class A>
class Source {
 public:
  explicit Source(const View& v) : data_(v.data), width_(int64_t(bytes_of(v.dtype))) {
    with_stored<A>(v.dtype, [&]<class T>() { native_ = kSame<T, A>, load_ = load_strided<A, T>; });
  }
  // `count` elements from element offset `at`: the tensor itself if it is dense A, else a copy in `buffer`.
  FOVEA_INLINE const A* block(int64_t at, int64_t stride, int64_t count, A* buffer) const {
    const std::byte* x = data_ + at * width_;
    if (native_ && stride == 1) return reinterpret_cast<const A*>(x);
    load_(x, stride, count, buffer);
    return buffer;
  }
  // Asks for what will be read next, such as the row after this one while this one is computed.
  FOVEA_INLINE void prefetch(int64_t at) const { __builtin_prefetch(data_ + at * width_); }
  FOVEA_INLINE const A* block(int64_t at, int64_t count, A* buffer) const { return block(at, 1, count, buffer); }
  FOVEA_INLINE bool native() const { return native_; }
  FOVEA_INLINE bool present() const { return data_ != nullptr; }

 private:
  const std::byte* data_;
  int64_t width_;
  bool native_;
  void (*load_)(const std::byte*, int64_t, int64_t, A*);
};

// A row that is read several times. Where it has to be converted, that is done once, if it is short enough to be kept.
template <class A>
constexpr int64_t kKept = 16384 / sizeof(A);
template <class A>
class KeptRow {
 public:
  FOVEA_INLINE KeptRow(const Source<A>& source, int64_t at, int64_t n)
      : source_(source), at_(at), whole_(source.native() || n <= kKept<A> ? source.block(at, n, buffer_) : nullptr) {}
  // The values are made now: fill(to) puts them into the buffer, or where `source` reads them if that is nullptr.
  template <class Fill>
  FOVEA_INLINE KeptRow(const Source<A>& source, int64_t at, int64_t n, Fill fill)
      : source_(source), at_(at), whole_(n <= kKept<A> ? buffer_.value : nullptr) {
    fill(whole_ ? buffer_.value : nullptr);
    if (!whole_ && source.native()) whole_ = source.block(at, n, buffer_);
  }
  KeptRow(const KeptRow&) = delete;
  FOVEA_INLINE const A* block(int64_t begin, int64_t count) {
    return whole_ ? whole_ + begin : source_.block(at_ + begin, count, buffer_);
  }

 private:
  Buffer<A, kKept<A>> buffer_;
  const Source<A>& source_;
  int64_t at_;
  const A* whole_;
};

// Whether a dense output in rows of n elements is so large, and lies so, that it is written past the caches.
FOVEA_INLINE bool written_past_caches(const View& v, int64_t n) {
  constexpr int64_t kLarge = 4 << 20;
  const int64_t width = int64_t(bytes_of(v.dtype));
  return v.size() * width >= kLarge && n * width % kVectorBytes == 0 &&
         reinterpret_cast<uintptr_t>(v.data) % kVectorBytes == 0;
}

// A dense output.
template <class A>
class Target {
 public:
  explicit Target(const View& v) : data_(v.data), dtype_(v.dtype), width_(int64_t(bytes_of(v.dtype))) {
    with_stored<A>(v.dtype, [&]<class T>() { native_ = kSame<T, A>, store_ = store_dense<A, T>; });
  }
  // An output in rows of n elements, which is written past the caches if it is large. fence() must follow.
  Target(const View& v, int64_t n) : Target(v) { past_caches_ = written_past_caches(v, n); }
  // Elements [at, at + count) are computed by vector_at(i, lanes), i counting from 0, `lanes` as for_vectors has it.
  template <class VectorAt>
  FOVEA_INLINE void write(int64_t at, int64_t count, VectorAt vector_at) const {
    write_to(at, count, nullptr, vector_at);
  }
  // The same; `kept` gets what was written, as it was rounded.
  template <class VectorAt>
  FOVEA_INLINE void write_and_keep(int64_t at, int64_t count, A* kept, VectorAt vector_at) const {
    write_to(at, count, kept, vector_at);
  }
  // write() where the stored type is known.
  template <class T, class VectorAt>
  FOVEA_INLINE void write_as(int64_t at, int64_t count, VectorAt vector_at) const {
    T* to = reinterpret_cast<T*>(data_) + at;
    if constexpr (kSame<T, A>) write_wide(to, count, nullptr, vector_at);
    else write_narrow(to, count, nullptr, vector_at);
  }
  // After the last of what a thread writes.
  FOVEA_INLINE void fence() const {
    if (past_caches_) fence_stores();
  }
  // In steps: a block is computed at block(at, buffer) and then committed.
  FOVEA_INLINE A* block(int64_t at, A* buffer) const {
    return native_ ? reinterpret_cast<A*>(data_ + at * width_) : buffer;
  }
  FOVEA_INLINE void commit(const A* block, int64_t at, int64_t count) const {
    if (!native_) store_(block, data_ + at * width_, count);
  }
  // Blocks are written as they are computed, so that what is there can be read again.
  FOVEA_INLINE bool native() const { return native_; }
  FOVEA_INLINE void put(const A* from, int64_t at, int64_t count) const { store_(from, data_ + at * width_, count); }

 private:
  template <class VectorAt>
  FOVEA_INLINE void write_to(int64_t at, int64_t count, A* kept, VectorAt vector_at) const {
    std::byte* to = data_ + at * width_;
    if constexpr (kSame<A, float>) {
      if (dtype_ == Dtype::bf16) return write_narrow(reinterpret_cast<Bfloat16*>(to), count, kept, vector_at);
      if (dtype_ == Dtype::f16) return write_narrow(reinterpret_cast<Half*>(to), count, kept, vector_at);
    }
    write_wide(reinterpret_cast<A*>(to), count, kept, vector_at);
  }
  template <class VectorAt>
  FOVEA_INLINE void write_wide(A* y, int64_t count, A* kept, VectorAt vector_at) const {
    auto kept_at = [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      const Vec<A> value = vector_at(i, lanes);
      if (kept) store(kept + i, value, lanes);
      return value;
    };
    if (!past_caches_)
      return for_vectors<A>(count,
                            [&](int64_t i, int64_t lanes) FOVEA_FLAT { store(y + i, kept_at(i, lanes), lanes); });
    for (int64_t i = 0; i < count; i += kLanes<A>) store_past_caches(y + i, kept_at(i, kLanes<A>));
  }
  template <class T, class VectorAt>
  FOVEA_INLINE void write_narrow(T* to, int64_t count, float* kept, VectorAt vector_at) const {
    constexpr int64_t kStep = kLanes<float>;
    const bool past_caches = past_caches_;
    int64_t i = 0;
    for (; i + 2 * kStep <= count; i += 2 * kStep) {
      const Vec<float> first = vector_at(i, kStep);
      const Vec<uint16_t> packed = narrow<T>(first, vector_at(i + kStep, kStep));
      if (past_caches) store_past_caches(&to[i].bits, packed);
      else store(&to[i].bits, packed);
      if (kept) widen_to<T>(packed, kept + i, 2 * kStep);
    }
    if (i == count) return;
    const int64_t rest = count - i;
    const Vec<float> first = vector_at(i, min_of(rest, kStep));
    const Vec<uint16_t> packed = narrow<T>(first, rest > kStep ? vector_at(i + kStep, rest - kStep) : Vec<float>{});
    __builtin_memcpy(to + i, &packed, size_t(rest) * sizeof(T));
    if (kept) widen_to<T>(packed, kept + i, rest);
  }
  template <class T>
  FOVEA_INLINE static void widen_to(Vec<uint16_t> packed, float* to, int64_t count) {
    T values[kLanes<uint16_t>];
    __builtin_memcpy(values, &packed, sizeof packed);
    convert_row(values, to, count);
  }

  std::byte* data_;
  Dtype dtype_;
  int64_t width_;
  bool native_, past_caches_ = false;
  void (*store_)(const A*, std::byte*, int64_t);
};

// body.operator()<A>() with the type that a float tensor is computed in.
template <class Body>
FOVEA_INLINE void dispatch_compute(Dtype t, Body body) {
  if (t == Dtype::f64) return body.template operator()<double>();
  body.template operator()<float>();
}

// Rows this short are worked on side by side, one to a lane.
constexpr int64_t kShortRow = 16;
// All rows lie one after the other in memory.
FOVEA_INLINE bool rows_follow(const Axes& axes, int64_t n, int64_t stride) {
  return (stride == 1 || n == 1) && (axes.rank == 0 || (axes.rank == 1 && axes.strides[0] == n));
}
// ---- folds: op is associative, works on A and on Vec<A>

struct Add {
  template <class A>
  static constexpr A identity = A(0);
  template <class V>
  FOVEA_INLINE V operator()(V a, V b) const {
    return a + b;
  }
};
// NaN wins, whichever side it is on.
struct Maximum {
  template <class A>
  static constexpr A identity =
      kSame<A, float> || kSame<A, double> ? A(-__builtin_inf()) : A(uint64_t(1) << (8 * sizeof(A) - 1));
  template <class V>
  FOVEA_INLINE V operator()(V a, V b) const {
    return ((a > b) | (a != a)) ? a : b;
  }
};

template <class A, class Op>
FOVEA_INLINE A fold_lanes(Vec<A> v, Op op) {
  A lane[kLanes<A>];
  store(static_cast<A*>(lane), v);
#pragma GCC unroll 8
  for (int half = kLanes<A> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lane[i] = op(lane[i], lane[i + half]);
  return lane[0];
}
// Folds vector_at(i, count), the vector of elements [i, i + count), over [0, n). Four chains hide the latency of op.
template <class A, class Op, class VectorAt>
FOVEA_INLINE A fold_vectors(int64_t n, Op op, VectorAt vector_at) {
  constexpr int64_t kStep = kLanes<A>;
  constexpr A kIdentity = Op::template identity<A>;
  int64_t i = 0;
  Vec<A> a = splat<A>(kIdentity), b = a, c = a, d = a;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    a = op(a, vector_at(i, kStep));
    b = op(b, vector_at(i + kStep, kStep));
    c = op(c, vector_at(i + 2 * kStep, kStep));
    d = op(d, vector_at(i + 3 * kStep, kStep));
  }
  for (; i + kStep <= n; i += kStep) a = op(a, vector_at(i, kStep));
  if (i < n) b = op(b, first_lanes<A>(vector_at(i, n - i), n - i, kIdentity));
  return fold_lanes<A>(op(op(a, b), op(c, d)), op);
}

// Folds of_block(begin, count) over the blocks of a row of n elements.
template <class A, class Op, class OfBlock>
FOVEA_INLINE A fold_blocks(int64_t n, Op op, OfBlock of_block) {
  A total = Op::template identity<A>;
  for (int64_t begin = 0; begin < n; begin += kBlock) total = op(total, of_block(begin, min_of(kBlock, n - begin)));
  return total;
}
template <class Body>
FOVEA_INLINE void for_blocks(int64_t n, Body body) {
  for (int64_t begin = 0; begin < n; begin += kBlock) body(begin, min_of(kBlock, n - begin));
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
