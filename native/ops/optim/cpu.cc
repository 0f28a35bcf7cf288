// Optimiser steps over all parameters in one command (formulas in op.cc). call.in holds tuples of views one after the
// other; every tensor is cut into pieces of kStepPiece elements, whatever the thread count.
//
// Parameters and gradients of 16 bits are converted; moments and momentum are float32 (float64 for float64 parameters).
// The order of operations is PyTorch's, so that float64 agrees with it to the last digits.
#include "cpu/rows.h"
#include "ops/optim/attrs.h"
#include "ops/optim/workspace.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kStepPiece = 32768;

struct Piece {
  int64_t tuple, begin, end;
};

int64_t count_pieces(Views in, int inputs, int64_t piece) {
  int64_t count = 0;
  for (int64_t i = 0; i < in.size(); i += inputs) count += ceil_div(in[i].size(), piece);
  return count;
}
Piece piece_of(Views in, int inputs, int64_t piece, int64_t number) {
  int64_t tuple = 0;
  for (int64_t pieces; number >= (pieces = ceil_div(in[tuple * inputs].size(), piece)); tuple++) number -= pieces;
  return {tuple, number * piece, min_of((number + 1) * piece, in[tuple * inputs].size())};
}
// body(views of the tuple, begin, end) for every piece of every tuple, in blocks of at most kBlock elements.
template <class Body>
void for_tuples(Call& call, int inputs, Body body) {
  call.parallel.for_each(count_pieces(call.in, inputs, kStepPiece), [&](int64_t chunk, int) {
    Piece piece = piece_of(call.in, inputs, kStepPiece, chunk);
    const View* tuple = &call.in[piece.tuple * inputs];
    dispatch_compute(tuple->dtype, [&]<class A>() { body.template operator()<A>(tuple, piece.begin, piece.end); });
  });
}

template <class A>
struct AdamwStep {
  A decay, weight_decay, rest1, beta2, rest2, step_size, root_correction, eps;
  explicit AdamwStep(const AdamwAttrs& a)
      : decay(A(a.decoupled ? 1 - a.lr * a.weightDecay : 1)),
        weight_decay(A(a.decoupled ? 0 : a.weightDecay)),
        rest1(A(1 - a.beta1)),
        beta2(A(a.beta2)),
        rest2(A(1 - a.beta2)),
        step_size(A(a.lr / (1 - __builtin_pow(a.beta1, double(a.step))))),
        root_correction(A(__builtin_sqrt(1 - __builtin_pow(a.beta2, double(a.step))))),
        eps(A(a.eps)) {}

  FOVEA_INLINE void operator()(A* __restrict p, const A* __restrict gradient, A* __restrict m, A* __restrict v,
                               int64_t n) const {
    for (int64_t i = 0; i < n; i++) {
      A g = weight_decay != 0 ? gradient[i] + weight_decay * p[i] : gradient[i];
      m[i] += (g - m[i]) * rest1;
      v[i] = v[i] * beta2 + rest2 * g * g;
      A root;
      if constexpr (kSame<A, float>) root = __builtin_sqrtf(v[i]);
      else root = __builtin_sqrt(v[i]);
      p[i] = p[i] * decay - step_size * m[i] / (root / root_correction + eps);
    }
  }
};

void adamw(Call& call, const AdamwAttrs& attrs) {
  for_tuples(call, 4, [&]<class A>(const View* t, int64_t begin, int64_t end) {
    const AdamwStep<A> step(attrs);
    const Source<A> p(t[0]), g(t[1]);
    const Target<A> updated(t[0]);
    for_blocks(end - begin, [&](int64_t offset, int64_t count) {
      A p_buffer[kBlock], g_buffer[kBlock];
      int64_t at = begin + offset;
      p.block(at, count, p_buffer);
      A* values = updated.block(at, p_buffer);
      step(values, g.block(at, count, g_buffer), t[2].as<A>() + at, t[3].as<A>() + at, count);
      updated.commit(values, at, count);
    });
  });
}

template <class A>
FOVEA_INLINE void sgd_block(A* p, const A* gradient, A* u, int64_t n, const SgdAttrs& attrs) {
  const A lr = A(attrs.lr), momentum = A(attrs.momentum), damping = A(1 - attrs.dampening),
          weight_decay = A(attrs.weightDecay);
  if (!u) {
    for (int64_t i = 0; i < n; i++) p[i] -= lr * (weight_decay != 0 ? gradient[i] + weight_decay * p[i] : gradient[i]);
    return;
  }
  const bool first = attrs.first, nesterov = attrs.nesterov;
  for (int64_t i = 0; i < n; i++) {
    A g = weight_decay != 0 ? gradient[i] + weight_decay * p[i] : gradient[i];
    A velocity = first ? g : momentum * u[i] + damping * g;
    u[i] = velocity;
    p[i] -= lr * (nesterov ? g + momentum * velocity : velocity);
  }
}

void sgd(Call& call, const SgdAttrs& attrs) {
  for (int64_t i = 0; i < call.in.size(); i += 3)
    if (attrs.momentum != 0 && !call.in[i + 2].present())
      call.fail("FOVEA_ARGUMENT",
                "parameter %lld has no momentum buffer u, but momentum is %g; give one or set momentum to 0",
                static_cast<long long>(i / 3), attrs.momentum);
  for_tuples(call, 3, [&]<class A>(const View* t, int64_t begin, int64_t end) {
    const Source<A> p(t[0]), g(t[1]);
    const Target<A> updated(t[0]);
    A* velocity = attrs.momentum != 0 ? t[2].as<A>() : nullptr;
    for_blocks(end - begin, [&](int64_t offset, int64_t count) {
      A p_buffer[kBlock], g_buffer[kBlock];
      int64_t at = begin + offset;
      p.block(at, count, p_buffer);
      A* values = updated.block(at, p_buffer);
      sgd_block(values, g.block(at, count, g_buffer), velocity ? velocity + at : nullptr, count, attrs);
      updated.commit(values, at, count);
    });
  });
}

// In float64, where no square of a float32 overflows and sums of many are still exact to float32.
template <class A>
double sum_of_squares(const View& v, int64_t begin, int64_t end) {
  const Source<A> source(v);
  return fold_blocks<double>(end - begin, Add(), [&](int64_t offset, int64_t count) {
    A buffer[kBlock];
    double wide[kBlock];
    const A* x = source.block(begin + offset, count, buffer);
    for (int64_t i = 0; i < count; i++) wide[i] = double(x[i]);
    return fold_vectors<double>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
      Vec<double> value = load(static_cast<const double*>(wide) + i, lanes);
      return value * value;
    });
  });
}

void grad_norm(Call& call, const NoAttrs&) {
  double *partial = call.scratch<double>(), total = 0;
  const int64_t pieces = count_pieces(call.in, 1, kNormPiece);
  call.parallel.for_each(pieces, [&](int64_t chunk, int) {
    Piece piece = piece_of(call.in, 1, kNormPiece, chunk);
    const View& v = call.in[piece.tuple];
    dispatch_compute(v.dtype, [&]<class A>() { partial[chunk] = sum_of_squares<A>(v, piece.begin, piece.end); });
  });
  for (int64_t i = 0; i < pieces; i++) total += partial[i];
  *call.out[0].as<float>() = float(__builtin_sqrt(total));
}

void clip(Call& call, const ClipAttrs& attrs) {
  for_tuples(call, 2, [&]<class A>(const View* t, int64_t begin, int64_t end) {
    const A scale = A(attrs.maxNorm / (double(*t[1].as<float>()) + 1e-6));
    if (scale >= 1) return;  // a NaN is neither, and makes all gradients NaN
    const Source<A> g(t[0]);
    const Target<A> clipped(t[0]);
    for_blocks(end - begin, [&](int64_t offset, int64_t count) {
      A buffer[kBlock];
      g.block(begin + offset, count, buffer);
      A* values = clipped.block(begin + offset, buffer);
      for (int64_t i = 0; i < count; i++) values[i] *= scale;
      clipped.commit(values, begin + offset, count);
    });
  });
}

}  // namespace

FOVEA_KERNELS(optim, FOVEA_KERNEL("adamw_", adamw, AdamwAttrs), FOVEA_KERNEL("sgd_", sgd, SgdAttrs),
              FOVEA_KERNEL("gradNorm", grad_norm, NoAttrs), FOVEA_KERNEL("clip_", clip, ClipAttrs))

}  // namespace fovea::FOVEA_ISA
