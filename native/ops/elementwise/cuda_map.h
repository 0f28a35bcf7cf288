// y[i] = f(a[i], b[i], ...) over views of any strides: one kernel for every elementwise op.
//
// Where neighbours along the last axis lie together in every view, or an operand repeats one element along it, a thread
// reads packs of up to 16 bytes, several before it computes anything. What is left of a row that is no multiple of a
// pack, and views that lie otherwise, go element by element, in further blocks of the same launch. An operand that is
// absent is one value. f gets and gives what the dtypes are computed in (Work).
#pragma once
#include "ops/elementwise/cuda_convert.h"
#include "ops/elementwise/cuda_places.h"

namespace fovea::cuda {
namespace {

// What an elementwise function computes a storage type in: small integers and bool in int32_t.
template <class T>
using Work = std::conditional_t<kSame<T, uint8_t> || kSame<T, int8_t> || kSame<T, Bool>, int32_t, Compute<T>>;

constexpr int kThreads = 128;

// Functions of many instructions derive from it: they keep the device busy with fewer elements per thread.
struct Heavy {};
// Elements of a pack, and packs (or elements that lie alone) that a thread takes: enough bytes on their way to hide the
// latency of memory, and no more copies of the function than that takes.
template <class F, class... T>
struct Shape {
  static constexpr bool kHeavy = std::is_base_of_v<Heavy, F>;
  static constexpr int kPack = std::min(8, int(16 / std::max({sizeof(T)...})));
  static constexpr int kPacks = kHeavy ? 1 : std::min(sizeof...(T) > 2 ? 2 : 4, 16 / kPack);
  static constexpr int kSingles = kHeavy ? 1 : 4;
};

// ---- on the device

template <class T>
struct Operand {
  const T* data;  // nullptr: `value` everywhere
  Work<T> value;
  bool repeats;  // one element serves a whole pack
};

// The values of a pack.
template <class T, int n>
struct Values {
  T at[n];
};
// What a thread has read of an operand: `packs` packs of n elements.
template <class T, int n, int packs>
struct Held {
  Pack<T, n> pack[packs];
  Work<T> value;
  bool constant;

  __device__ __forceinline__ Held(const Operand<T>& from, const int64_t (&at)[packs], const bool (&live)[packs])
      : value(from.value), constant(!from.data) {
    if (constant) return;
    if (n > 1 && from.repeats) {
#pragma unroll
      for (int j = 0; j < packs; j++) {
        T x{};
        if (live[j]) x = from.data[at[j]];
        for (int k = 0; k < n; k++) pack[j].value[k] = x;
      }
    } else {
#pragma unroll
      for (int j = 0; j < packs; j++)
        if (live[j]) pack[j] = *reinterpret_cast<const Pack<T, n>*>(from.data + at[j]);
    }
  }
  __device__ __forceinline__ Values<Work<T>, n> get(int j) const {
    Values<Work<T>, n> values;
    if constexpr (kIs16Bit<T>) {
      widen_pack(pack[j], values.at);
    } else {
#pragma unroll
      for (int k = 0; k < n; k++) values.at[k] = convert_one<T, Work<T>>(pack[j].value[k]);
    }
#pragma unroll
    for (int k = 0; k < n; k++)
      if (constant) values.at[k] = value;
    return values;
  }
};

// The share of the block number `block` of `count` packs of n elements that begin with element `begin`.
template <int n, int packs, class F, class Out, int kViews, class... In>
__device__ __forceinline__ void map_packs(const F& f, Out* out, const Places<kViews>& places, int64_t block,
                                          int64_t begin, int64_t count, const Operand<In>&... in) {
  int64_t at[kViews][packs];
  bool live[packs];
#pragma unroll
  for (int j = 0; j < packs; j++) {
    int64_t number = (block * packs + j) * kThreads + threadIdx.x, offsets[kViews];
    live[j] = number < count;
    places.find(begin + (live[j] ? number * n : 0), offsets);
    for (int v = 0; v < kViews; v++) at[v][j] = offsets[v];
  }
  auto compute = [&](const auto&... held) {
#pragma unroll
    for (int j = 0; j < packs; j++) {
      if (!live[j]) continue;
      [&](const auto&... values) {
        decltype(f(values.at[0]...)) y[n];
#pragma unroll
        for (int k = 0; k < n; k++) y[k] = f(values.at[k]...);
        *reinterpret_cast<Pack<Out, n>*>(out + at[0][j]) = convert_pack<Out>(y);
      }(held.get(j)...);
    }
  };
  [&]<size_t... v>(std::index_sequence<v...>) { compute(Held<In, n, packs>(in, at[1 + v], live)...); }
  (std::make_index_sequence<sizeof...(In)>{});
}

// Elements [0, count * kPack) in packs, the others alone.
template <class F, class Out, class... In>
__global__ void __launch_bounds__(kThreads) map_kernel(F f, Out* out, Places<1 + int(sizeof...(In))> places,
                                                       int64_t count, unsigned pack_blocks, Operand<In>... in) {
  using S = Shape<F, Out, In...>;
  if (blockIdx.x < pack_blocks) {
    map_packs<S::kPack, S::kPacks>(f, out, places, blockIdx.x, 0, count, in...);
  } else {
    const int64_t begin = count * S::kPack;
    map_packs<1, S::kSingles>(f, out, places, blockIdx.x - pack_blocks, begin, places.size - begin, in...);
  }
}

// ---- on the host

// The numbers, without bool.
template <class Body>
void dispatch_number(Dtype dtype, Body&& body) {
  switch (dtype) {
    case Dtype::i32: return body(int32_t{});
    case Dtype::i64: return body(int64_t{});
    case Dtype::u8: return body(uint8_t{});
    case Dtype::i8: return body(int8_t{});
    default: return dispatch_float(dtype, body);
  }
}

// An operand: a view, or, where that is absent, a value.
template <class T>
struct Input {
  const View& view;
  Work<T> value{};
};
template <class T>
Input<T> input(const View& view, double otherwise = 0) {
  return {view, convert_one<double, Work<T>>(otherwise)};
}

// A view of the shape of `like`, with the same element everywhere where `view` is absent.
inline View view_or_constant(const View& view, const View& like) {
  if (view.present()) return view;
  View constant = like;
  constant.data = nullptr;
  for (int d = 0; d < like.rank; d++) constant.strides[d] = 0;
  return constant;
}

// Whether neighbours along the last axis make packs of n elements in all views; views[0] is written.
template <int kViews>
bool makes_packs(const Layout<kViews>& layout, int64_t n, const std::array<const std::byte*, kViews>& data,
                 const std::array<size_t, kViews>& widths) {
  const int last = layout.rank - 1;
  if (last < 0 || (last > 0 && layout.shape[last] % n)) return false;
  for (int v = 0; v < kViews; v++) {
    const int64_t* strides = layout.strides[v];
    if (v > 0 && strides[last] == 0) continue;
    if (strides[last] != 1 || reinterpret_cast<uintptr_t>(data[size_t(v)]) % (size_t(n) * widths[size_t(v)]))
      return false;
    for (int d = 0; d < last; d++)
      if (strides[d] % n) return false;
  }
  return true;
}

template <class Out, class F, class... In>
void map_part(const CudaCall& call, F f, const Layout<1 + int(sizeof...(In))>& layout, Out* out, Operand<In>... in) {
  using S = Shape<F, Out, In...>;
  const bool packs = makes_packs<1 + int(sizeof...(In))>(
      layout, S::kPack, {reinterpret_cast<const std::byte*>(out), reinterpret_cast<const std::byte*>(in.data)...},
      {sizeof(Out), sizeof(In)...});
  const int64_t count = packs ? layout.size / S::kPack : 0, singles = layout.size - count * S::kPack;
  const int64_t pack_blocks = ceil_div(count, kThreads * S::kPacks);
  Config config{{unsigned(pack_blocks + ceil_div(singles, kThreads * S::kSingles))}, {kThreads}};
  int v = 0;
  ((in.repeats = layout.rank > 0 && layout.strides[++v][layout.rank - 1] == 0), ...);
  call.launch(map_kernel<F, Out, In...>, config, f, out, Places<1 + int(sizeof...(In))>(layout), count,
              unsigned(pack_blocks), in...);
}

// out[i] = f(in[i]...); `out` is one of the inputs where the op is in place.
template <class Out, class F, class... In>
void map(const CudaCall& call, const View& out, F f, const Input<In>&... in) {
  std::array<View, 1 + sizeof...(In)> views = {out, view_or_constant(in.view, out)...};
  if (!out.contiguous()) sort_axes(views);
  each_narrow_part(layout_of_all(views), {}, [&](const auto& layout, const auto& first) {
    [[maybe_unused]] size_t v = 0;
    [[maybe_unused]] auto operand = [&]<class T>(const Input<T>& x) {
      v++;
      return x.view.present() ? Operand<T>{x.view.template as<T>() + first[v], {}, false}
                              : Operand<T>{nullptr, x.value, false};
    };
    std::tuple<Operand<In>...> operands{operand(in)...};  // in braces: from left to right
    std::apply([&](const auto&... each) { map_part<Out>(call, f, layout, out.as<Out>() + first[0], each...); },
               operands);
  });
}

}  // namespace
}  // namespace fovea::cuda
