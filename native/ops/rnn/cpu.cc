// The pointwise part of recurrent cells, n columns of a state at a time. With s = sigma and z the gates before their
// functions, x + hidden:
//
//   lstmCell   c' = s(z_f) c + s(z_i) tanh(z_g)    h = s(z_o) tanh(c')
//   gruCell    r, u = s(z_r), s(z_u)    m = tanh(x_m + r hidden_m)    h' = m + u (h - m)      (u is PyTorch's z)
//
// Both directions are bound by the functions, so that gates are computed twice rather than kept.
#include "cpu/math.h"
#include "cpu/rows.h"
#include "ops/rnn/gates.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int64_t kColumns = 256;  // of a block: those of all gates fit on the stack
template <class A>
using Columns = Buffer<A, kColumns>;

// body(at, gate, count) for blocks of the columns of all rows: `at` is their place in a state, gate(k) in gate k.
template <class Body>
void for_columns(Call& call, const CellRows& size, int64_t gates, Body body) {
  constexpr int64_t kWork = 16;  // several exponentials are worth some elements that are only moved
  const int64_t n = size.n, blocks = ceil_div(n, kColumns);
  const int64_t grain = max_of(1, kGrain / kWork / max_of(1, min_of(n, kColumns)));
  call.parallel.for_range(size.rows * blocks, grain, [&](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; piece++) {
      const int64_t row = piece / blocks, begin = piece % blocks * kColumns;
      auto gate = [&](int64_t k) { return (row * gates + k) * n + begin; };
      body(row * n + begin, gate, min_of(kColumns, n - begin));
    }
  });
}

// x + hidden, or x alone where there is no `hidden`.
template <class A>
class Gates {
 public:
  Gates(const View& x, const View& hidden) : x_(x), hidden_(hidden) {}
  FOVEA_INLINE const A* block(int64_t at, int64_t count, A* buffer) const {
    const A* x = x_.block(at, count, buffer);
    if (!hidden_.present()) return x;
    Columns<A> other;
    const A* hidden = hidden_.block(at, count, other);
    for_vectors<A>(count, [&](int64_t i, int64_t lanes)
                              FOVEA_FLAT { store(buffer + i, load(x + i, lanes) + load(hidden + i, lanes), lanes); });
    return buffer;
  }

 private:
  Source<A> x_, hidden_;
};

// A gradient, zeros where it is absent.
template <class A>
FOVEA_INLINE const A* block_or_zeros(const Source<A>& source, int64_t at, int64_t count, A* buffer) {
  if (source.present()) return source.block(at, count, buffer);
  for (int64_t i = 0; i < count; i++) buffer[i] = 0;
  return buffer;
}

// The derivatives of sigma and tanh, from their values.
template <class V>
FOVEA_INLINE V sigmoid_slope(V s) {
  return s * (1 - s);
}
template <class V>
FOVEA_INLINE V tanh_slope(V t) {
  return (1 - t) * (1 + t);
}

template <class A>
void lstm_forward(Call& call, const CellRows& size) {
  const Gates<A> gates(call.in[0], call.in[1]);
  const Source<A> cells(call.in[2]);
  const Target<A> h_to(call.out[0]), c_to(call.out[1]);
  for_columns(call, size, 4, [&](int64_t at, auto gate, int64_t count) {
    Columns<A> buffer[4], c_buffer, h_buffer, next_buffer;
    const A *zi = gates.block(gate(0), count, buffer[0]), *zf = gates.block(gate(1), count, buffer[1]),
            *zg = gates.block(gate(2), count, buffer[2]), *zo = gates.block(gate(3), count, buffer[3]);
    const A* c = cells.block(at, count, c_buffer);
    A *h = h_to.block(at, h_buffer), *next = c_to.block(at, next_buffer);
    for_vectors<A>(count, [&](int64_t k, int64_t lanes) FOVEA_FLAT {
      const Vec<A> i = sigmoid(load(zi + k, lanes)), f = sigmoid(load(zf + k, lanes)), g = tanh(load(zg + k, lanes)),
                   o = sigmoid(load(zo + k, lanes));
      const Vec<A> c_new = f * load(c + k, lanes) + i * g;
      store(next + k, c_new, lanes);
      store(h + k, o * tanh(c_new), lanes);
    });
    h_to.commit(h, at, count);
    c_to.commit(next, at, count);
  });
}

// forward: c' = s(z_f) c + s(z_i) tanh(z_g), h = s(z_o) tanh(c')
template <class A>
void lstm_backward(Call& call, const CellRows& size) {
  const Gates<A> gates(call.in[0], call.in[1]);
  const Source<A> cells(call.in[2]), dh_from(call.in[3]), dc_from(call.in[4]);
  const Target<A> dx_to(call.in[5]), dc_to(call.in[6]);
  for_columns(call, size, 4, [&](int64_t at, auto gate, int64_t count) {
    Columns<A> buffer[4], d_buffer[4], c_buffer, dh_buffer, dnext_buffer, dc_buffer;
    const A *zi = gates.block(gate(0), count, buffer[0]), *zf = gates.block(gate(1), count, buffer[1]),
            *zg = gates.block(gate(2), count, buffer[2]), *zo = gates.block(gate(3), count, buffer[3]);
    const A *c = cells.block(at, count, c_buffer), *dh = block_or_zeros<A>(dh_from, at, count, dh_buffer),
            *dnext = block_or_zeros<A>(dc_from, at, count, dnext_buffer);
    A *di = dx_to.block(gate(0), d_buffer[0]), *df = dx_to.block(gate(1), d_buffer[1]),
      *dg = dx_to.block(gate(2), d_buffer[2]), *dout = dx_to.block(gate(3), d_buffer[3]);
    A* dc = dc_to.block(at, dc_buffer);
    for_vectors<A>(count, [&](int64_t k, int64_t lanes) FOVEA_FLAT {
      const Vec<A> i = sigmoid(load(zi + k, lanes)), f = sigmoid(load(zf + k, lanes)), g = tanh(load(zg + k, lanes)),
                   o = sigmoid(load(zo + k, lanes)), before = load(c + k, lanes), t = tanh(f * before + i * g);
      const Vec<A> dh_k = load(dh + k, lanes), dc_new = load(dnext + k, lanes) + dh_k * o * tanh_slope(t);
      store(di + k, dc_new * g * sigmoid_slope(i), lanes);
      store(df + k, dc_new * before * sigmoid_slope(f), lanes);
      store(dg + k, dc_new * i * tanh_slope(g), lanes);
      store(dout + k, dh_k * t * sigmoid_slope(o), lanes);
      store(dc + k, dc_new * f, lanes);
    });
    dx_to.commit(di, gate(0), count), dx_to.commit(df, gate(1), count), dx_to.commit(dg, gate(2), count),
        dx_to.commit(dout, gate(3), count);
    dc_to.commit(dc, at, count);
  });
}

template <class A>
void gru_forward(Call& call, const CellRows& size) {
  const Gates<A> gates(call.in[0], call.in[1]);
  const Source<A> inputs(call.in[0]), hiddens(call.in[1]), states(call.in[2]);
  const Target<A> to(call.out[0]);
  for_columns(call, size, 3, [&](int64_t at, auto gate, int64_t count) {
    Columns<A> buffer[4], h_buffer, next_buffer;
    const A *zr = gates.block(gate(0), count, buffer[0]), *zu = gates.block(gate(1), count, buffer[1]),
            *xm = inputs.block(gate(2), count, buffer[2]), *hm = hiddens.block(gate(2), count, buffer[3]);
    const A* h = states.block(at, count, h_buffer);
    A* next = to.block(at, next_buffer);
    for_vectors<A>(count, [&](int64_t k, int64_t lanes) FOVEA_FLAT {
      const Vec<A> r = sigmoid(load(zr + k, lanes)), u = sigmoid(load(zu + k, lanes)),
                   m = tanh(load(xm + k, lanes) + r * load(hm + k, lanes));
      store(next + k, m + u * (load(h + k, lanes) - m), lanes);
    });
    to.commit(next, at, count);
  });
}

// forward: h' = m + u (h - m), m = tanh(x_m + r hidden_m)
template <class A>
void gru_backward(Call& call, const CellRows& size) {
  const Gates<A> gates(call.in[0], call.in[1]);
  const Source<A> inputs(call.in[0]), hiddens(call.in[1]), states(call.in[2]), d_from(call.in[3]);
  const Target<A> dx_to(call.in[4]), dhidden_to(call.in[5]), dh_to(call.in[6]);
  for_columns(call, size, 3, [&](int64_t at, auto gate, int64_t count) {
    Columns<A> buffer[4], d_buffer[4], h_buffer, dnext_buffer, dh_buffer;
    const A *zr = gates.block(gate(0), count, buffer[0]), *zu = gates.block(gate(1), count, buffer[1]),
            *xm = inputs.block(gate(2), count, buffer[2]), *hm = hiddens.block(gate(2), count, buffer[3]);
    const A *h = states.block(at, count, h_buffer), *dnext = d_from.block(at, count, dnext_buffer);
    A *dr = dx_to.block(gate(0), d_buffer[0]), *du = dx_to.block(gate(1), d_buffer[1]),
      *dm = dx_to.block(gate(2), d_buffer[2]), *dhm = dhidden_to.block(gate(2), d_buffer[3]);
    A* dh = dh_to.block(at, dh_buffer);
    for_vectors<A>(count, [&](int64_t k, int64_t lanes) FOVEA_FLAT {
      const Vec<A> hm_k = load(hm + k, lanes), r = sigmoid(load(zr + k, lanes)), u = sigmoid(load(zu + k, lanes)),
                   m = tanh(load(xm + k, lanes) + r * hm_k), d = load(dnext + k, lanes);
      const Vec<A> dm_k = d * (1 - u) * tanh_slope(m);
      store(dr + k, dm_k * hm_k * sigmoid_slope(r), lanes);
      store(du + k, d * (load(h + k, lanes) - m) * sigmoid_slope(u), lanes);
      store(dm + k, dm_k, lanes);
      store(dhm + k, dm_k * r, lanes);
      store(dh + k, d * u, lanes);
    });
    dx_to.commit(dr, gate(0), count), dx_to.commit(du, gate(1), count), dx_to.commit(dm, gate(2), count);
    dhidden_to.put(dr, gate(0), count), dhidden_to.put(du, gate(1), count), dhidden_to.commit(dhm, gate(2), count);
    dh_to.commit(dh, at, count);
  });
}

void lstm_cell(Call& call, const NoAttrs&) {
  const CellRows size(call, call.in[0], call.in[2], 4);
  dispatch_compute(call.in[0].dtype, [&]<class A>() { lstm_forward<A>(call, size); });
}
void lstm_cell_backward(Call& call, const NoAttrs&) {
  const CellRows size(call, call.in[0], call.in[2], 4);
  dispatch_compute(call.in[0].dtype, [&]<class A>() { lstm_backward<A>(call, size); });
}
void gru_cell(Call& call, const NoAttrs&) {
  const CellRows size(call, call.in[0], call.in[2], 3);
  dispatch_compute(call.in[0].dtype, [&]<class A>() { gru_forward<A>(call, size); });
}
void gru_cell_backward(Call& call, const NoAttrs&) {
  const CellRows size(call, call.in[0], call.in[2], 3);
  dispatch_compute(call.in[0].dtype, [&]<class A>() { gru_backward<A>(call, size); });
}

}  // namespace

FOVEA_KERNELS(rnn, FOVEA_KERNEL("lstmCell", lstm_cell, NoAttrs),
              FOVEA_KERNEL("lstmCellBackward_", lstm_cell_backward, NoAttrs),
              FOVEA_KERNEL("gruCell", gru_cell, NoAttrs), FOVEA_KERNEL("gruCellBackward_", gru_cell_backward, NoAttrs))

}  // namespace fovea::FOVEA_ISA
