// Rotary position embedding:
//
//   y_a = x_a cos - x_b sin    y_b = x_b cos + x_a sin
//
// for pairs (a, b) = (i, i + r), or (2i, 2i + 1) if interleaved, i < r; the inverse takes -sin. Components from 2r on
// are copied. A thread rotates K pairs, or copies 2 K components, of one row; K is 1 where rows do not begin and end at
// multiples of 16 bytes.
#include "cuda/block.h"
#include "ops/rope/attrs.h"

namespace fovea::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
struct Problem {
  const T* x;
  const Accumulator<T>*cosines, *sines;
  T* y;
  int64_t h, n, d, r, rows;
  int64_t x_strides[3], angle_strides[2], sine_strides[2];
  Accumulator<T> sign;  // -1 for the inverse
};

template <int K, class T>
__device__ Pack<T, K> load(const T* from) {
  return *reinterpret_cast<const Pack<T, K>*>(from);
}
template <class T, int K>
__device__ void store(T* to, const Pack<T, K>& pack) {
  *reinterpret_cast<Pack<T, K>*>(to) = pack;
}

// K angles, in as few loads as there can be.
template <int K, class A>
__device__ void load_angles(const A* from, A (&angles)[K]) {
  constexpr int kEach = K < kPackOf<A> ? K : kPackOf<A>;
#pragma unroll
  for (int k = 0; k < K; k += kEach) {
    const Pack<A, kEach> pack = load<kEach>(from + k);
    for (int i = 0; i < kEach; i++) angles[k + i] = pack.value[i];
  }
}

// `pair`: the first of K.
template <bool kInterleaved, int K, class T>
__device__ void rotate(const Problem<T>& p, const T* x, const Accumulator<T>* cosines, const Accumulator<T>* sines,
                       T* y, int64_t pair) {
  using A = Accumulator<T>;
  const int64_t a_at = kInterleaved ? 2 * pair : pair, b_at = kInterleaved ? a_at + K : pair + p.r;
  Pack<T, K> low = load<K>(x + a_at), high = load<K>(x + b_at);
  A cosine_of[K], sine_of[K];
  load_angles(cosines + pair, cosine_of), load_angles(sines + pair, sine_of);
#pragma unroll
  for (int k = 0; k < K; k++) {
    // Interleaved, pair k are the elements 2k and 2k + 1 of both packs together.
    T& a = !kInterleaved ? low.value[k] : 2 * k < K ? low.value[2 * k % K] : high.value[2 * k % K];
    T& b = !kInterleaved ? high.value[k] : 2 * k + 1 < K ? low.value[(2 * k + 1) % K] : high.value[(2 * k + 1) % K];
    const A from = widen(a), other = widen(b), cosine = cosine_of[k], sine = p.sign * sine_of[k];
    a = narrow<T>(from * cosine - other * sine);
    b = narrow<T>(other * cosine + from * sine);
  }
  store(y + a_at, low), store(y + b_at, high);
}

// a / b for numbers that are not negative; in 32 bits, which take a fraction of the time, where these are enough.
__device__ inline int64_t quotient(int64_t a, int64_t b) {
  return (a | b) >> 32 ? a / b : int64_t(uint32_t(a) / uint32_t(b));
}

// Rows are [b][h][n]; d / 2K threads, rounded up, for each.
template <class T, int K, bool kInterleaved>
__global__ void __launch_bounds__(kThreads, 1) rope_rows(Problem<T> p) {
  const int64_t per_row = (p.d + 2 * K - 1) / (2 * K), items = p.rows * per_row;
  for (int64_t item = first_item(); item < items; item += item_step()) {
    const int64_t row = quotient(item, per_row), pair = (item - row * per_row) * K;
    const int64_t outer = quotient(row, p.n), i = row - outer * p.n, b = quotient(outer, p.h), head = outer - b * p.h;
    const T* x = p.x + b * p.x_strides[0] + head * p.x_strides[1] + i * p.x_strides[2];
    T* y = p.y + row * p.d;
    if (pair < p.r) {
      rotate<kInterleaved, K>(p, x, p.cosines + b * p.angle_strides[0] + i * p.angle_strides[1],
                              p.sines + b * p.sine_strides[0] + i * p.sine_strides[1], y, pair);
    } else {
      const int64_t end = min_of(2 * pair + 2 * K, p.d);
      for (int64_t j = 2 * pair; j < end; j += K) store(y + j, load<K>(x + j));
    }
  }
}

template <class T>
void launch_rope(const CudaCall& call, const RopeAttrs& attrs) {
  using A = Accumulator<T>;
  const View &x = call.in[0], &c = call.in[1], &s = call.in[2], &y = call.out[0];
  Problem<T> p;
  p.x = x.as<T>(), p.cosines = c.as<A>(), p.sines = s.as<A>(), p.y = y.as<T>();
  p.h = x.shape[1], p.n = x.shape[2], p.d = x.shape[3], p.r = c.shape[2], p.rows = rows_of(x);
  p.sign = attrs.inverse ? A(-1) : A(1);
  for (int i = 0; i < 3; i++) p.x_strides[i] = x.strides[i];
  for (int i = 0; i < 2; i++) p.angle_strides[i] = c.strides[i], p.sine_strides[i] = s.strides[i];
  // Packs must not straddle the two halves of the pairs, or these and the rest.
  const bool fit = packs_fit(x) && packs_fit(y) && packs_fit(c) && packs_fit(s) && p.r % kPackOf<T> == 0;
  dispatch_packs<T>(fit, [&](auto size) {
    constexpr int K = decltype(size)::value;
    const Config config{dim3(blocks_for(p.rows * ceil_div(p.d, 2 * K), kThreads, call.device)), dim3(kThreads)};
    call.launch(attrs.interleaved ? rope_rows<T, K, true> : rope_rows<T, K, false>, config, p);
  });
}

void rope(const CudaCall& call, const RopeAttrs& attrs) {
  const int64_t d = call.in[0].shape[3], r = call.in[1].shape[2];
  if (2 * r > d)
    call.fail(
        "FOVEA_SHAPE",
        "cos and sin hold %lld angles, which rotate %lld components, but x has only %lld; pass at most %lld angles",
        static_cast<long long>(r), static_cast<long long>(2 * r), static_cast<long long>(d),
        static_cast<long long>(d / 2));
  dispatch_float(call.in[0].dtype, [&](auto zero) { launch_rope<decltype(zero)>(call, attrs); });
}

}  // namespace

FOVEA_CUDA_KERNELS(rope, FOVEA_CUDA_KERNEL("rope", rope, RopeAttrs))

}  // namespace fovea::cuda
