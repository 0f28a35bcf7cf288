// Gated linear units: y = f(gate) up with f = silu or gelu, gate and up being two tensors or the halves of one.
//
//   dgate = dy up f'(gate)    dup = dy f(gate)
//
// Memory bounds all of them, so everything is read and written once.
#include "cpu/math_slopes.h"
#include "cpu/rows.h"
#include "ops/gated/attrs.h"
#include "ops/gated/halves.h"

namespace fovea::FOVEA_ISA {
namespace {

struct SiluGate {
  template <class V>
  FOVEA_INLINE static V value(V x) {
    return silu(x);
  }
  template <class V>
  FOVEA_INLINE static V slope(V x) {
    return silu_slope(x);
  }
};
struct GeluGate {
  template <class V>
  FOVEA_INLINE static V value(V x) {
    return gelu(x);
  }
  template <class V>
  FOVEA_INLINE static V slope(V x) {
    return gelu_slope(x);
  }
};
struct GeluTanhGate {
  template <class V>
  FOVEA_INLINE static V value(V x) {
    return gelu_tanh(x);
  }
  template <class V>
  FOVEA_INLINE static V slope(V x) {
    return gelu_tanh_slope(x);
  }
};

// The rows of one of the tensors; one long row where they follow each other in all of them.
struct Place {
  Axes axes;
  Place(const View& v, bool flat) : axes(flat ? Axes{} : leading_axes(v, 1)) {}
  FOVEA_INLINE int64_t operator()(int64_t row) const { return offset_of(axes, row); }
};

// body(row, begin, count) for the blocks of all rows of n elements.
template <class Body>
void for_pieces(Call& call, int64_t rows, int64_t n, Body body) {
  constexpr int64_t kPieceWork = 4;  // an exponential is worth some elements that are only moved
  const int64_t blocks = ceil_div(n, kBlock), grain = max_of(1, kGrain / kPieceWork / max_of(1, min_of(n, kBlock)));
  call.parallel.for_range(rows * blocks, grain, [&](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; piece++) {
      const int64_t begin = piece % blocks * kBlock;
      body(piece / blocks, begin, min_of(kBlock, n - begin));
    }
  });
}

template <class Gate>
void forward(Call& call, int64_t width) {
  const View &x = call.in[0], &other = call.in[1], &out = call.out[0];
  const bool apart = other.present(), flat = apart && x.contiguous() && other.contiguous();
  check_width(call, width, apart);
  const Halves in(x, other, apart);
  const int64_t rows = flat ? 1 : leading_size(out), n = flat ? out.size() : width;
  dispatch_compute(x.dtype, [&]<class A>() {
    const Source<A> gates(in.gate), ups(in.up);
    const Target<A> target(out);
    const Place gate_at(in.gate, flat), up_at(in.up, flat);
    const bool past_caches = target.past_caches(out.size(), n);
    for_pieces(call, rows, n, [&](int64_t row, int64_t begin, int64_t count) {
      A gate_buffer[kBlock], up_buffer[kBlock], y_buffer[kBlock];
      const A* gate = gates.block(gate_at(row) + begin, count, gate_buffer);
      const A* up = ups.block(up_at(row) + begin, count, up_buffer);
      A* y = target.block(row * n + begin, y_buffer);
      for_vectors<A>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
        const Vec<A> value = Gate::value(load(gate + i, lanes)) * load(up + i, lanes);
        if (past_caches) store_past_caches(y + i, value);
        else store(y + i, value, lanes);
      });
      target.commit(y, row * n + begin, count);
      if (past_caches) fence_stores();
    });
  });
}

// forward: y = f(gate) up
template <class Gate>
void backward(Call& call) {
  const View &x = call.in[0], &other = call.in[1], &gradient = call.in[2];
  const int64_t width = gradient.dim(-1);
  const bool apart = other.present(), flat = apart && x.contiguous() && other.contiguous() && gradient.contiguous();
  check_width(call, width, apart);
  const Halves in(x, other, apart), out(call.out[0], call.out[1], apart);
  const int64_t rows = flat ? 1 : leading_size(x), n = flat ? x.size() : width;
  dispatch_compute(x.dtype, [&]<class A>() {
    const Source<A> gates(in.gate), ups(in.up), dys(gradient);
    const Target<A> dgates(out.gate), dups(out.up);
    const Place gate_at(in.gate, flat), up_at(in.up, flat), dy_at(gradient, flat), to_at(out.gate, flat);
    for_pieces(call, rows, n, [&](int64_t row, int64_t begin, int64_t count) {
      A gate_buffer[kBlock], up_buffer[kBlock], dy_buffer[kBlock], dgate_buffer[kBlock], dup_buffer[kBlock];
      const A* gate = gates.block(gate_at(row) + begin, count, gate_buffer);
      const A* up = ups.block(up_at(row) + begin, count, up_buffer);
      const A* dy = dys.block(dy_at(row) + begin, count, dy_buffer);
      const int64_t to = to_at(row) + begin;
      A *dgate = dgates.block(to, dgate_buffer), *dup = dups.block(to, dup_buffer);
      for_vectors<A>(count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
        const Vec<A> g = load(gate + i, lanes), d = load(dy + i, lanes);
        store(dgate + i, d * load(up + i, lanes) * Gate::slope(g), lanes);
        store(dup + i, d * Gate::value(g), lanes);
      });
      dgates.commit(dgate, to, count), dups.commit(dup, to, count);
    });
  });
}

void swiglu(Call& call, const SwigluAttrs& attrs) { forward<SiluGate>(call, attrs.width); }
void geglu(Call& call, const GegluAttrs& attrs) {
  if (attrs.tanh) forward<GeluTanhGate>(call, attrs.width);
  else forward<GeluGate>(call, attrs.width);
}
void swiglu_backward(Call& call, const SwigluAttrs&) { backward<SiluGate>(call); }
void geglu_backward(Call& call, const GegluAttrs& attrs) {
  if (attrs.tanh) backward<GeluTanhGate>(call);
  else backward<GeluGate>(call);
}

}  // namespace

FOVEA_KERNELS(gated, FOVEA_KERNEL("swiglu", swiglu, SwigluAttrs), FOVEA_KERNEL("geglu", geglu, GegluAttrs),
              FOVEA_KERNEL("swigluBackward", swiglu_backward, SwigluAttrs),
              FOVEA_KERNEL("gegluBackward", geglu_backward, GegluAttrs))

}  // namespace fovea::FOVEA_ISA
