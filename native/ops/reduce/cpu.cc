// Reductions over the last axis, any strides. fold.h says how they are cut; here is what each of them computes:
//
//   sum, prod, mean     in float32 for 16-bit floats, modulo 2^64 for integers
//   max, min            NaN wins; argmax, argmin: the first index of that value
//   variance            mean first, then sum (x - mean)^2 / max(n - correction, 0)
//   norm                (sum |x|^p)^(1/p); p = 0 counts what is not zero, p = +-inf is the largest or smallest |x|
//   logsumexp           m + log sum exp(x - m), m = max x where that is finite, else 0
//   cumsum              in float64 for float32
#include "cpu/math.h"
#include "ops/reduce/attrs.h"
#include "ops/reduce/fold.h"

namespace fovea::FOVEA_ISA {
namespace {

struct Multiply {
  template <class A>
  static constexpr A identity = A(1);
  template <class V>
  FOVEA_INLINE V operator()(V a, V b) const {
    return a * b;
  }
};
struct Minimum {
  template <class A>
  static constexpr A identity =
      kSame<A, float> || kSame<A, double> ? A(__builtin_inf()) : A((uint64_t(1) << (8 * sizeof(A) - 1)) - 1);
  template <class V>
  FOVEA_INLINE V operator()(V a, V b) const {
    return ((a < b) | (a != a)) ? a : b;
  }
};

// Maps: V is a vector of elements, with the row's parameter.
struct Itself {
  template <class V>
  FOVEA_INLINE V operator()(V x, V) const {
    return x;
  }
};
struct Magnitude {
  template <class V>
  FOVEA_INLINE V operator()(V x, V) const {
    return x < 0 ? -x : x;
  }
};
struct Square {
  template <class V>
  FOVEA_INLINE V operator()(V x, V) const {
    return x * x;
  }
};
struct SquaredDeviation {
  template <class V>
  FOVEA_INLINE V operator()(V x, V mean) const {
    return (x - mean) * (x - mean);
  }
};
struct IsNotZero {
  template <class V>
  FOVEA_INLINE V operator()(V x, V) const {
    return x != 0 ? V{} + 1 : V{};
  }
};
struct ExpAbove {
  template <class V>
  FOVEA_INLINE V operator()(V x, V maximum) const {
    return exp(x - maximum);
  }
};
// Lane by lane in float64: a general exponent is rare.
struct Power {
  double p;
  template <class V>
  FOVEA_INLINE V operator()(V x, V) const {
    for (int i = 0; i < int(sizeof(V) / sizeof(x[0])); i++) x[i] = __builtin_pow(__builtin_fabs(double(x[i])), p);
    return x;
  }
};
struct Unchanged {
  template <class A>
  FOVEA_INLINE A operator()(A a) const {
    return a;
  }
};

// body.operator()<A>() with the type that elements are compared in.
template <class Body>
void dispatch_any(Dtype t, Body body) {
  if (t == Dtype::i64) return body.template operator()<int64_t>();
  if (set_of(t) & kFloatTypes) return dispatch_compute(t, body);
  body.template operator()<int32_t>();
}
// Integers are summed modulo 2^64, as unsigned, since signed overflow has no meaning in C++.
template <class Body>
void dispatch_sum(Dtype t, Body body) {
  if (set_of(t) & kIntTypes) return body.template operator()<uint64_t>();
  dispatch_compute(t, body);
}

template <class A, class S>
void reduce_to_output(Call& call, const S& stage) {
  Reduction<A> r(call.in[0]);
  Target<A> y(call.out[0]);
  reduce_once<A>(call, r, stage, [&](int64_t, int64_t first, int64_t count, const A* a) { y.put(a, first, count); });
}

template <class Op>
void sum_or_product(Call& call, const NoAttrs&) {
  dispatch_sum(call.in[0].dtype, [&]<class A>() { reduce_to_output<A>(call, Stage{Op(), Itself(), Unchanged()}); });
}

void mean(Call& call, const NoAttrs&) {
  dispatch_compute(call.in[0].dtype, [&]<class A>() {
    A n = A(row_length(call.in[0]));
    reduce_to_output<A>(call, Stage{Add(), Itself(), [n](A a) { return a / n; }});
  });
}

void refuse_empty(Call& call) {
  if (row_length(call.in[0]) == 0 && call.out[0].size() > 0)
    call.fail("FOVEA_SHAPE", "the reduced axis has no elements, so there is no %s; reduce an axis of at least one",
              call.op);
}

template <class Op>
void extremum(Call& call, const NoAttrs&) {
  refuse_empty(call);
  dispatch_any(call.in[0].dtype, [&]<class A>() { reduce_to_output<A>(call, Stage{Op(), Itself(), Unchanged()}); });
}

// The value first, then where it is first found.
template <class Op>
void extremum_index(Call& call, const NoAttrs&) {
  refuse_empty(call);
  int64_t* y = call.out[0].as<int64_t>();
  dispatch_any(call.in[0].dtype, [&]<class A>() {
    Reduction<A> r(call.in[0]);
    reduce_once<A>(call, r, Stage{Op(), Itself(), Unchanged()},
                   [&](int64_t group, int64_t first, int64_t, const A* a) { r.find(group, a, y + first); });
  });
}

template <class Op>
void truth(Call& call, const NoAttrs&) {
  reduce_to_output<int32_t>(call, Stage{Op(), IsNotZero(), [](int32_t a) { return a > 0 ? 1 : 0; }});
}

void variance(Call& call, const VarianceAttrs& attrs) {
  dispatch_compute(call.in[0].dtype, [&]<class A>() {
    Reduction<A> r(call.in[0]);
    A n = A(r.n()), degrees = A(r.n()) - A(attrs.correction);
    if (degrees < 0) degrees = 0;
    Target<A> y(call.out[0]);
    A* means = call.out[1].as<A>();
    reduce_twice<A>(call, r, Stage{Add(), Itself(), [n](A a) { return a / n; }},
                    Stage{Add(), SquaredDeviation(), [degrees](A a) { return a / degrees; }},
                    [&](int64_t, int64_t first, int64_t count, const A* a, const A* b) {
                      for (int64_t k = 0; k < count; k++) means[first + k] = a[k];
                      y.put(b, first, count);
                    });
  });
}

void norm(Call& call, const NormAttrs& attrs) {
  double p = attrs.p;
  if (__builtin_isinf(p)) refuse_empty(call);
  dispatch_compute(call.in[0].dtype, [&]<class A>() {
    if (p == __builtin_inf()) return reduce_to_output<A>(call, Stage{Maximum(), Magnitude(), Unchanged()});
    if (p == -__builtin_inf()) return reduce_to_output<A>(call, Stage{Minimum(), Magnitude(), Unchanged()});
    if (p == 0) return reduce_to_output<A>(call, Stage{Add(), IsNotZero(), Unchanged()});
    if (p == 1) return reduce_to_output<A>(call, Stage{Add(), Magnitude(), Unchanged()});
    if (p == 2)
      return reduce_to_output<A>(call, Stage{Add(), Square(), [](A a) { return A(__builtin_sqrt(double(a))); }});
    reduce_to_output<A>(call, Stage{Add(), Power{p}, [p](A a) { return A(__builtin_pow(double(a), 1 / p)); }});
  });
}

void logsumexp(Call& call, const NoAttrs&) {
  dispatch_compute(call.in[0].dtype, [&]<class A>() {
    Reduction<A> r(call.in[0]);
    Target<A> y(call.out[0]);
    reduce_twice<A>(call, r, Stage{Maximum(), Itself(), [](A a) { return __builtin_isinf(a) ? A(0) : a; }},
                    Stage{Add(), ExpAbove(), [](A a) { return A(__builtin_log(double(a))); }},
                    [&](int64_t, int64_t first, int64_t count, const A* a, const A* b) {
                      A sum[kGroup];
                      for (int64_t k = 0; k < count; k++) sum[k] = a[k] + b[k];
                      y.put(sum, first, count);
                    });
  });
}

// A running sum has no pairwise form, so float32 is summed in float64.
template <class A>
struct PrefixSumOf {
  using type = A;
};
template <>
struct PrefixSumOf<float> {
  using type = double;
};

void cumsum(Call& call, const NoAttrs&) {
  const View& x = call.in[0];
  dispatch_sum(x.dtype, [&]<class A>() {
    Axes axes = leading_axes(x, 1);
    Source<A> from(x);
    Target<A> to(call.out[0]);
    int64_t n = row_length(x), stride = row_stride(x);
    call.parallel.for_range(leading_size(x), row_grain(n), [&](int64_t begin, int64_t end) {
      A in[kBlock], out[kBlock];
      for (int64_t row = begin; row < end; row++) {
        typename PrefixSumOf<A>::type sum = 0;
        for (int64_t i = 0; i < n; i += kBlock) {
          int64_t count = min_of(kBlock, n - i);
          const A* block = from.block(offset_of(axes, row) + i * stride, stride, count, in);
          for (int64_t k = 0; k < count; k++) out[k] = A(sum += block[k]);
          to.put(out, row * n + i, count);
        }
      }
    });
  });
}

}  // namespace

FOVEA_KERNELS(reduce, FOVEA_KERNEL("sum", sum_or_product<Add>, NoAttrs),
              FOVEA_KERNEL("prod", sum_or_product<Multiply>, NoAttrs), FOVEA_KERNEL("mean", mean, NoAttrs),
              FOVEA_KERNEL("max", extremum<Maximum>, NoAttrs), FOVEA_KERNEL("min", extremum<Minimum>, NoAttrs),
              FOVEA_KERNEL("argmax", extremum_index<Maximum>, NoAttrs),
              FOVEA_KERNEL("argmin", extremum_index<Minimum>, NoAttrs), FOVEA_KERNEL("any", truth<Maximum>, NoAttrs),
              FOVEA_KERNEL("all", truth<Minimum>, NoAttrs), FOVEA_KERNEL("variance", variance, VarianceAttrs),
              FOVEA_KERNEL("norm", norm, NormAttrs), FOVEA_KERNEL("logsumexp", logsumexp, NoAttrs),
              FOVEA_KERNEL("cumsum", cumsum, NoAttrs))

}  // namespace fovea::FOVEA_ISA
