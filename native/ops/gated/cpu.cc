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
template <class Gate, class T, class V>
FOVEA_INLINE V value_of(V x) {
  if constexpr (kIs16Bit<T>) return Gate::coarse_value(x);
  else return Gate::value(x);
}

template <class Gate>
void forward(Call& call, int64_t width) {
  const View &x = call.in[0], &other = call.in[1], &out = call.out[0];
  const bool apart = other.present(), flat = apart && x.contiguous() && other.contiguous();
  check_width(call, width, apart);
  const Halves in(x, other, apart);
  const int64_t rows = flat ? 1 : leading_size(out), n = flat ? out.size() : width;
  dispatch_float(x.dtype, [&]<class T>() {
    const Target<Compute<T>> target(out, n);
    const Place gate_at(in.gate, flat), up_at(in.up, flat);
    for_pieces(
        call, rows, n,
        [&](int64_t row, int64_t begin, int64_t count) {
          const T *gate = in.gate.as<T>() + gate_at(row) + begin, *up = in.up.as<T>() + up_at(row) + begin;
          target.template write_as<T>(row * n + begin, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
            fetch_ahead(gate + i), fetch_ahead(up + i);
            return value_of<Gate, T>(load_wide(gate + i, lanes)) * load_wide(up + i, lanes);
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
  dispatch_float(x.dtype, [&]<class T>() {
    const Target<Compute<T>> dgates(out.gate, n), dups(out.up, n);
    const Place gate_at(in.gate, flat), up_at(in.up, flat), dy_at(gradient, flat), to_at(out.gate, flat);
    for_pieces(
        call, rows, n,
        [&](int64_t row, int64_t begin, int64_t count) {
          const T *gate = in.gate.as<T>() + gate_at(row) + begin, *up = in.up.as<T>() + up_at(row) + begin;
          const T* dy = gradient.as<T>() + dy_at(row) + begin;
          const int64_t to = to_at(row) + begin;
          dgates.template write_as<T>(to, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
            fetch_ahead(gate + i), fetch_ahead(up + i), fetch_ahead(dy + i);
            return load_wide(dy + i, lanes) * load_wide(up + i, lanes) * Gate::slope(load_wide(gate + i, lanes));
          });
          dups.template write_as<T>(to, count, [&](int64_t i, int64_t lanes) FOVEA_FLAT {
            return load_wide(dy + i, lanes) * value_of<Gate, T>(load_wide(gate + i, lanes));
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
