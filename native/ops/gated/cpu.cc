// Gated linear units: y = f(gate) up with f = silu or gelu, gate and up being two tensors or the halves of one.
//
//   dgate = dy up f'(gate)    dup = dy f(gate)
//
// Memory bounds all of them, so everything is read and written once.
#include "cpu/math_coarse.h"
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
  FOVEA_INLINE static Vec<float> coarse_value(Vec<float> x) { return coarse_silu(x); }
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
  FOVEA_INLINE static Vec<float> coarse_value(Vec<float> x) { return coarse_gelu(x); }
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
  FOVEA_INLINE static Vec<float> coarse_value(Vec<float> x) { return coarse_gelu_tanh(x); }
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

// body(row, begin, count) for the blocks of all rows of n elements; done() after a thread's last.
template <class Body, class Done>
void for_pieces(Call& call, int64_t rows, int64_t n, Body body, Done done) {
  constexpr int64_t kPieceWork = 4;  // an exponential is worth some elements that are only moved
  const int64_t blocks = ceil_div(n, kBlock), grain = max_of(1, kGrain / kPieceWork / max_of(1, min_of(n, kBlock)));
  call.parallel.for_range(rows * blocks, grain, [&](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; piece++) {
      const int64_t begin = piece % blocks * kBlock;
      body(piece / blocks, begin, min_of(kBlock, n - begin));
    }
    done();
  });
}

// f(x); coarsely for results of 16 bits.
template <class Gate, bool kCoarse, class V>
FOVEA_INLINE V value_of(V x) {
  if constexpr (kCoarse) return Gate::coarse_value(x);
  else return Gate::value(x);
}
// body.operator()<A, kCoarse>()
template <class Body>
FOVEA_INLINE void dispatch_gate(Dtype t, Body body) {
  if (t == Dtype::f64) return body.template operator()<double, false>();
  if (bytes_of(t) == 2) return body.template operator()<float, true>();
  body.template operator()<float, false>();
}

template <class Gate>
void forward(Call& call, int64_t width) {
  const View &x = call.in[0], &other = call.in[1], &out = call.out[0];
  const bool apart = other.present(), flat = apart && x.contiguous() && other.contiguous();
  check_width(call, width, apart);
  const Halves in(x, other, apart);
  const int64_t rows = flat ? 1 : leading_size(out), n = flat ? out.size() : width;
  dispatch_gate(x.dtype, [&]<class A, bool kCoarse>() {
    const Source<A> gates(in.gate), ups(in.up);
    const Target<A> target(out, n);
    const Place gate_at(in.gate, flat), up_at(in.up, flat);
    for_pieces(
        call, rows, n,
        [&](int64_t row, int64_t begin, int64_t count) {
          Buffer<A> gate_buffer, up_buffer;
          const int64_t at_gate = gate_at(row) + begin, at_up = up_at(row) + begin;
          const A *gate = gates.block(at_gate, count, gate_buffer), *up = ups.block(at_up, count, up_buffer);
          target.write(row * n + begin, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
            gates.prefetch(at_gate + count + i), ups.prefetch(at_up + count + i);
            return value_of<Gate, kCoarse>(load(gate + i, lanes)) * load(up + i, lanes);
          });
        },
        [&] { target.fence(); });
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
  dispatch_gate(x.dtype, [&]<class A, bool kCoarse>() {
    const Source<A> gates(in.gate), ups(in.up), dys(gradient);
    const Target<A> dgates(out.gate, n), dups(out.up, n);
    const Place gate_at(in.gate, flat), up_at(in.up, flat), dy_at(gradient, flat), to_at(out.gate, flat);
    for_pieces(
        call, rows, n,
        [&](int64_t row, int64_t begin, int64_t count) {
          Buffer<A> gate_buffer, up_buffer, dy_buffer;
          const int64_t at_gate = gate_at(row) + begin, at_up = up_at(row) + begin;
          const A *gate = gates.block(at_gate, count, gate_buffer), *up = ups.block(at_up, count, up_buffer);
          const int64_t at_dy = dy_at(row) + begin, to = to_at(row) + begin;
          const A* dy = dys.block(at_dy, count, dy_buffer);
          dgates.write(to, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
            gates.prefetch(at_gate + count + i), ups.prefetch(at_up + count + i);
            dys.prefetch(at_dy + count + i);
            return load(dy + i, lanes) * load(up + i, lanes) * Gate::slope(load(gate + i, lanes));
          });
          dups.write(to, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
            return load(dy + i, lanes) * value_of<Gate, kCoarse>(load(gate + i, lanes));
          });
        },
        [&] { dgates.fence(), dups.fence(); });
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
