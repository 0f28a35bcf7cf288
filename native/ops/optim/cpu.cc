// Optimiser steps over all parameters in one command (formulas in op.cc). call.in holds tuples of views one after the
// other; every tensor is cut into pieces of kStepPiece elements, whatever the thread count.
//
// Parameters and gradients of 16 bits are converted; states are float32 (float64 for float64 parameters), and of the
// ops for compact states in 16 or 8 bits (compact.h), computed in float32 or float64 all the same.
#include "cpu/rows.h"
#include "ops/optim/adafactor.h"
#include "ops/optim/attrs.h"
#include "ops/optim/compact.h"
#include "ops/optim/squares.h"
#include "ops/optim/steps.h"
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

// For the views of one tuple that hold elements at `at`: absent states are `spare`.
template <class A>
FOVEA_INLINE A* state_at(const View& v, int64_t at, A* spare) {
  return v.present() ? v.as<A>() + at : spare;
}

template <class Step, class A>
FOVEA_INLINE void apply(const Step& given, A* __restrict p, const A* __restrict g, A* __restrict a, A* __restrict b,
                        A* __restrict c, int64_t n) {
  const Step step = given;  // which no write through a pointer changes
  A unused = 0;
  for (int64_t i = 0; i < n; i++) {
    if constexpr (Step::kStates == 1) p[i] = step(p[i], g[i], a[i], unused, unused);
    else if constexpr (Step::kStates == 2) p[i] = step(p[i], g[i], a[i], b[i], unused);
    else p[i] = step(p[i], g[i], a[i], b[i], c[i]);
  }
}

// One of the steps of steps.h for all tuples of parameter, gradient and states.
template <template <class> class Step, class Attrs>
void step_all(Call& call, const Attrs& attrs) {
  constexpr int kStates = Step<float>::kStates, kInputs = 2 + kStates;
  check_states(call, attrs);
  for_tuples(call, kInputs, [&]<class A>(const View* t, int64_t begin, int64_t end) {
    const Step<A> step(attrs);
    const Source<A> p(t[0]), g(t[1]);
    const Target<A> updated(t[0]);
    A spare[kStates][kBlock] = {};
    for_blocks(end - begin, [&](int64_t offset, int64_t count) {
      Buffer<A> p_buffer, g_buffer;
      const int64_t at = begin + offset;
      p.block(at, count, p_buffer);
      A *values = updated.block(at, p_buffer), *states[3] = {};
      for (int k = 0; k < kStates; k++) states[k] = state_at(t[2 + k], at, spare[k]);
      apply(step, values, g.block(at, count, g_buffer), states[0], states[1], states[2], count);
      updated.commit(values, at, count);
    });
  });
}

// ---- compact states

static_assert(kStepPiece % kStateRun == 0 && kBlock % kStateRun == 0, "pieces and blocks consist of whole runs");

// State number `number` of a tuple: bfloat16, or bytes and their scales. Number 0 has a sign, the others have none.
template <class A>
class CompactState {
 public:
  void look_at(const View& state, const View& scales, int number) {
    state_ = state, scales_ = scales, number_ = number;
    if (!state.present() || state.dtype != Dtype::u8) return;
    for (uint32_t code = 0; code < 256; code++)
      table_[code] = number == 0 ? decode_signed(code) : decode_positive(code);
  }
  // Elements [at, at + count), `at` a multiple of kStateRun; zeros of a state that is not there.
  void load(int64_t at, int64_t count, A* to) const {
    if (!state_.present()) {
      for (int64_t i = 0; i < count; i++) to[i] = 0;
    } else if (state_.dtype == Dtype::bf16) {
      const Bfloat16* from = state_.template as<Bfloat16>() + at;
      for (int64_t i = 0; i < count; i++) to[i] = A(to_float(from[i]));
    } else {
      for (int64_t run = 0; run < count; run += kStateRun) load_run(at + run, min_of(kStateRun, count - run), to + run);
    }
  }
  void store(const A* from, int64_t at, int64_t count, int64_t step) const {
    if (!state_.present()) return;
    if (state_.dtype == Dtype::bf16) {
      Bfloat16* to = state_.template as<Bfloat16>() + at;
      for (int64_t i = 0; i < count; i++)
        to[i] = to_bfloat16_dithered(float(from[i]), dither_of(at + i, step, number_));
      return;
    }
    for (int64_t run = 0; run < count; run += kStateRun)
      store_run(from + run, at + run, min_of(kStateRun, count - run), step);
  }

 private:
  void load_run(int64_t at, int64_t count, A* __restrict to) const {
    const uint8_t* __restrict from = state_.template as<uint8_t>() + at;
    const float* __restrict table = table_;
    const float scale = scales_.template as<float>()[at / kStateRun];
    for (int64_t i = 0; i < count; i++) to[i] = A(table[from[i]] * scale);
  }
  void store_run(const A* __restrict from, int64_t at, int64_t count, int64_t step) const {
    int32_t most = 0;
    for (int64_t i = 0; i < count; i++) {
      const int32_t bits = magnitude_bits(float(from[i]));
      most = bits > most ? bits : most;
    }
    const float largest = float_of(uint32_t(most));
    scales_.template as<float>()[at / kStateRun] = largest;
    uint8_t* __restrict to = state_.template as<uint8_t>() + at;
    const uint32_t dither = dither_of(at, step, number_);
    if (number_ == 0)
      for (int64_t i = 0; i < count; i++) to[i] = encode_signed(float(from[i]), largest, dither + dither_of(i, 0, 0));
    else
      for (int64_t i = 0; i < count; i++) to[i] = encode_positive(float(from[i]), largest, dither + dither_of(i, 0, 0));
  }

  View state_, scales_;
  int number_ = 0;
  float table_[256];
};

// The steps again, with states that are made wide for one block at a time.
template <template <class> class Step, class Attrs>
void compact_step_all(Call& call, const Attrs& attrs) {
  constexpr int kStates = Step<float>::kStates, kInputs = 2 + 2 * kStates;
  check_compact_states(call, attrs);
  for_tuples(call, kInputs, [&]<class A>(const View* t, int64_t begin, int64_t end) {
    const Step<A> step(attrs);
    const Source<A> p(t[0]), g(t[1]);
    const Target<A> updated(t[0]);
    CompactState<A> states[kStates];
    for (int k = 0; k < kStates; k++) states[k].look_at(t[2 + k], t[2 + kStates + k], k);
    for_blocks(end - begin, [&](int64_t offset, int64_t count) {
      Buffer<A> p_buffer, g_buffer, wide[3];
      const int64_t at = begin + offset;
      p.block(at, count, p_buffer);
      A* values = updated.block(at, p_buffer);
      for (int k = 0; k < kStates; k++) states[k].load(at, count, wide[k]);
      apply(step, values, g.block(at, count, g_buffer), wide[0].value, wide[1].value, wide[2].value, count);
      updated.commit(values, at, count);
      for (int k = 0; k < kStates; k++) states[k].store(wide[k], at, count, attrs.step);
    });
  });
}

// ---- norms

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
      Buffer<A> buffer;
      g.block(begin + offset, count, buffer);
      A* values = clipped.block(begin + offset, buffer);
      for (int64_t i = 0; i < count; i++) values[i] *= scale;
      clipped.commit(values, begin + offset, count);
    });
  });
}

}  // namespace

FOVEA_KERNELS(optim, FOVEA_KERNEL("adamw_", step_all<AdamwStep>, AdamwAttrs),
              FOVEA_KERNEL("radam_", step_all<RadamStep>, RadamAttrs),
              FOVEA_KERNEL("nadam_", step_all<NadamStep>, NadamAttrs),
              FOVEA_KERNEL("adagrad_", step_all<AdagradStep>, AdagradAttrs),
              FOVEA_KERNEL("rmsprop_", step_all<RmspropStep>, RmspropAttrs),
              FOVEA_KERNEL("lion_", step_all<LionStep>, LionAttrs), FOVEA_KERNEL("sgd_", step_all<SgdStep>, SgdAttrs),
              FOVEA_KERNEL("sophia_", step_all<SophiaStep>, SophiaAttrs),
              FOVEA_KERNEL("adamwCompact_", compact_step_all<AdamwStep>, AdamwAttrs),
              FOVEA_KERNEL("lionCompact_", compact_step_all<LionStep>, LionAttrs),
              FOVEA_KERNEL("adafactor_", adafactor, AdafactorAttrs), FOVEA_KERNEL("gradNorm", grad_norm, NoAttrs),
              FOVEA_KERNEL("clip_", clip, ClipAttrs))

}  // namespace fovea::FOVEA_ISA
