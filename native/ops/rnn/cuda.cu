// The pointwise part of recurrent cells, an element of the state to a thread: see op.cc beside this for the formulas.
#include "cuda/index.h"
#include "ops/elementwise/cuda_functions.h"
#include "ops/rnn/gates.h"

namespace fovea::cuda {
namespace {

// Gates side by side, as many as `gates`, and one of them; absent ones are 0.
template <class T>
struct Gates {
  const T* data;
  __device__ Compute<T> operator()(int64_t at) const { return data ? widen(data[at]) : Compute<T>(0); }
};
template <class T>
Gates<T> gates_of(const View& view) {
  return {view.present() ? view.as<T>() : nullptr};
}

// Calls body(at, first) for the thread's share of the elements: their place in a state, and that of their first gate.
template <class Body>
__device__ void for_elements(const CellRows& size, int64_t gates, Body body) {
  for (int64_t at = first_item(); at < size.rows * size.n; at += item_step()) {
    const int64_t row = at / size.n;
    body(at, row * gates * size.n + (at - row * size.n));
  }
}
Config config_for(const CudaCall& call, const CellRows& size) {
  return {dim3(blocks_for(size.rows * size.n, kThreads, call.device)), dim3(kThreads)};
}

// The derivatives of sigma and tanh, from their values.
template <class A>
__device__ A sigmoid_slope(A s) {
  return s * (1 - s);
}
template <class A>
__device__ A tanh_slope(A t) {
  return (1 - t) * (1 + t);
}

template <class A>
struct LstmGates {
  A i, f, g, o;
  template <class T>
  __device__ LstmGates(const Gates<T>& x, const Gates<T>& hidden, int64_t first, int64_t n) {
    auto sum = [&](int64_t k) { return x(first + k * n) + hidden(first + k * n); };
    i = Sigmoid()(sum(0)), f = Sigmoid()(sum(1)), g = Tanh()(sum(2)), o = Sigmoid()(sum(3));
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    lstm_forward(CellRows size, Gates<T> x, Gates<T> hidden, const T* c, T* h, T* c_new) {
  for_elements(size, 4, [&](int64_t at, int64_t first) {
    const LstmGates<Compute<T>> z(x, hidden, first, size.n);
    const Compute<T> next = z.f * widen(c[at]) + z.i * z.g;
    c_new[at] = narrow<T>(next);
    h[at] = narrow<T>(z.o * Tanh()(next));
  });
}
// forward: c' = f c + i g, h = o tanh(c')
template <class T>
__global__ void __launch_bounds__(kThreads) lstm_backward(CellRows size, Gates<T> x, Gates<T> hidden, const T* c,
                                                          Gates<T> dh_of, Gates<T> dc_of, T* dx, T* dc) {
  for_elements(size, 4, [&](int64_t at, int64_t first) {
    using A = Compute<T>;
    const int64_t n = size.n;
    const LstmGates<A> z(x, hidden, first, n);
    const A before = widen(c[at]), t = Tanh()(z.f * before + z.i * z.g), dh = dh_of(at),
            dnext = dc_of(at) + dh * z.o * tanh_slope(t);
    dx[first] = narrow<T>(dnext * z.g * sigmoid_slope(z.i));
    dx[first + n] = narrow<T>(dnext * before * sigmoid_slope(z.f));
    dx[first + 2 * n] = narrow<T>(dnext * z.i * tanh_slope(z.g));
    dx[first + 3 * n] = narrow<T>(dh * t * sigmoid_slope(z.o));
    dc[at] = narrow<T>(dnext * z.f);
  });
}

template <class A>
struct GruGates {
  A r, u, hidden_m, m;
  template <class T>
  __device__ GruGates(const Gates<T>& x, const Gates<T>& hidden, int64_t first, int64_t n) {
    r = Sigmoid()(x(first) + hidden(first)), u = Sigmoid()(x(first + n) + hidden(first + n));
    hidden_m = hidden(first + 2 * n), m = Tanh()(x(first + 2 * n) + r * hidden_m);
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    gru_forward(CellRows size, Gates<T> x, Gates<T> hidden, const T* h, T* h_new) {
  for_elements(size, 3, [&](int64_t at, int64_t first) {
    const GruGates<Compute<T>> z(x, hidden, first, size.n);
    h_new[at] = narrow<T>(z.m + z.u * (widen(h[at]) - z.m));
  });
}
// forward: h' = m + u (h - m), m = tanh(x_m + r hidden_m)
template <class T>
__global__ void __launch_bounds__(kThreads)
    gru_backward(CellRows size, Gates<T> x, Gates<T> hidden, const T* h, const T* dh_new, T* dx, T* dhidden, T* dh) {
  for_elements(size, 3, [&](int64_t at, int64_t first) {
    using A = Compute<T>;
    const int64_t n = size.n;
    const GruGates<A> z(x, hidden, first, n);
    const A d = widen(dh_new[at]), dm = d * (1 - z.u) * tanh_slope(z.m);
    dx[first] = dhidden[first] = narrow<T>(dm * z.hidden_m * sigmoid_slope(z.r));
    dx[first + n] = dhidden[first + n] = narrow<T>(d * (widen(h[at]) - z.m) * sigmoid_slope(z.u));
    dx[first + 2 * n] = narrow<T>(dm);
    dhidden[first + 2 * n] = narrow<T>(dm * z.r);
    dh[at] = narrow<T>(d * z.u);
  });
}

void lstm_cell(const CudaCall& call, const NoAttrs&) {
  const CellRows size(call, call.in[0], call.in[2], 4);
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(lstm_forward<T>, config_for(call, size), size, gates_of<T>(call.in[0]), gates_of<T>(call.in[1]),
                call.in[2].as<T>(), call.out[0].as<T>(), call.out[1].as<T>());
  });
}
void lstm_cell_backward(const CudaCall& call, const NoAttrs&) {
  const CellRows size(call, call.in[0], call.in[2], 4);
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(lstm_backward<T>, config_for(call, size), size, gates_of<T>(call.in[0]), gates_of<T>(call.in[1]),
                call.in[2].as<T>(), gates_of<T>(call.in[3]), gates_of<T>(call.in[4]), call.in[5].as<T>(),
                call.in[6].as<T>());
  });
}
void gru_cell(const CudaCall& call, const NoAttrs&) {
  const CellRows size(call, call.in[0], call.in[2], 3);
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(gru_forward<T>, config_for(call, size), size, gates_of<T>(call.in[0]), gates_of<T>(call.in[1]),
                call.in[2].as<T>(), call.out[0].as<T>());
  });
}
void gru_cell_backward(const CudaCall& call, const NoAttrs&) {
  const CellRows size(call, call.in[0], call.in[2], 3);
  dispatch_float(call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    call.launch(gru_backward<T>, config_for(call, size), size, gates_of<T>(call.in[0]), gates_of<T>(call.in[1]),
                call.in[2].as<T>(), call.in[3].as<T>(), call.in[4].as<T>(), call.in[5].as<T>(), call.in[6].as<T>());
  });
}

}  // namespace

FOVEA_CUDA_KERNELS(rnn, FOVEA_CUDA_KERNEL("lstmCell", lstm_cell, NoAttrs),
                   FOVEA_CUDA_KERNEL("lstmCellBackward_", lstm_cell_backward, NoAttrs),
                   FOVEA_CUDA_KERNEL("gruCell", gru_cell, NoAttrs),
                   FOVEA_CUDA_KERNEL("gruCellBackward_", gru_cell_backward, NoAttrs))

}  // namespace fovea::cuda
