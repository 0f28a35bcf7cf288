// What the reductions fold, each as a commutative monoid:
//
//   using T       the type of the elements; using A: what they are computed in
//   State         what is known of some elements; identity() of none, or identity(first) where kNeedsFirst, with the
//                 first element of the row
//   add(s, x, i)  s also knows of x[0], x[1], ...; x[m] has index i(m), which grows with m and from call to call
//   merge(a, b)   what is known of the elements of both
//   put(at, s)    the result number `at`, from the state of all its elements
//   kLoads, kMostPack: how many loads a thread has under way, and of how many elements at most
//
// Every op goes over its elements once: a variance keeps the sum and the squared deviations of what it has seen (Chan,
// Golub & LeVeque 1979, http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf), and a log-sum-exp keeps
// its sum relative to the largest so far.
#pragma once
#include <math.h>

#include <limits>
#include <type_traits>

#include "cuda/block.h"

namespace fovea::cuda {
namespace {

template <class T>
constexpr bool kIsFloat = kSame<T, float> || kSame<T, double> || kSame<T, Half> || kSame<T, Bfloat16>;
// Integers are summed modulo 2^64, as unsigned, since signed overflow has no meaning in C++.
template <class T>
using SumOf = std::conditional_t<kIsFloat<T>, Accumulator<T>, uint64_t>;
// Narrow integers are compared as 32-bit ones.
template <class T>
using ComparedAs =
    std::conditional_t<kIsFloat<T>, Accumulator<T>, std::conditional_t<kSame<T, int64_t>, int64_t, int32_t>>;
template <class T, class A>
__device__ T to_storage(A a) {
  return narrow<T>(Compute<T>(a));
}

// op over x, as a tree; M is a power of two.
template <int M, class A, class Op>
__device__ A fold_tree(const A (&x)[M], Op op) {
  A partial[M];
#pragma unroll
  for (int m = 0; m < M; m++) partial[m] = x[m];
#pragma unroll
  for (int half = M / 2; half > 0; half /= 2)
    for (int m = 0; m < half; m++) partial[m] = op(partial[m], partial[m + half]);
  return partial[0];
}
template <int M, class A>
__device__ A sum_tree(const A (&x)[M]) {
  return fold_tree(x, [](A a, A b) { return a + b; });
}

template <class Element>
struct Fold {
  using T = Element;
  static constexpr bool kNeedsFirst = false;
  static constexpr int kLoads = 4, kMostPack = 8;
};

// ---- sums and products

// sum x / divisor, where there is a divisor
template <class T, class Sums = SumOf<T>>
struct Sum : Fold<T> {
  using A = Sums;
  using State = A;
  T* y;
  A divisor;
  explicit Sum(T* y, A divisor = 1) : y(y), divisor(divisor) {}
  __device__ State identity() const { return 0; }
  template <int M, class Index>
  __device__ void add(State& s, const A (&x)[M], Index) const {
    s += sum_tree(x);
  }
  __device__ State merge(State a, State b) const { return a + b; }
  __device__ void put(int64_t at, State s) const { y[at] = to_storage<T>(s / divisor); }
};

// In float64: products leave the range of float32 on the way, in one order or another, long before their result does.
template <class T>
struct Product : Fold<T> {
  using A = std::conditional_t<kIsFloat<T>, double, uint64_t>;
  using State = A;
  static constexpr int kMostPack = 4;
  T* y;
  explicit Product(T* y) : y(y) {}
  __device__ State identity() const { return 1; }
  template <int M, class Index>
  __device__ void add(State& s, const A (&x)[M], Index) const {
    s *= fold_tree(x, [](A a, A b) { return a * b; });
  }
  __device__ State merge(State a, State b) const { return a * b; }
  __device__ void put(int64_t at, State s) const { y[at] = to_storage<T>(s); }
};

// (sum |x|^p)^(1/p); for p = 0 how many are not zero
template <class T>
struct PowerSum : Fold<T> {
  using A = Accumulator<T>;
  using State = A;
  T* y;
  double p;
  PowerSum(T* y, double p) : y(y), p(p) {}
  __device__ State identity() const { return 0; }
  __device__ A power(A x) const { return p == 2 ? x * x : p == 1 ? A(fabs(x)) : A(x != 0); }
  template <int M, class Index>
  __device__ void add(State& s, const A (&x)[M], Index) const {
    A powers[M];
#pragma unroll
    for (int m = 0; m < M; m++) powers[m] = power(x[m]);
    s += sum_tree(powers);
  }
  __device__ State merge(State a, State b) const { return a + b; }
  __device__ void put(int64_t at, State s) const { y[at] = to_storage<T>(p == 2 ? A(sqrt(double(s))) : s); }
};
// The same for any p, element by element in float64: it is rare.
template <class T>
struct AnyPowerSum : PowerSum<T> {
  using A = Accumulator<T>;
  static constexpr int kLoads = 1, kMostPack = 1;
  using PowerSum<T>::PowerSum;
  template <class Index>
  __device__ void add(A& s, const A (&x)[1], Index) const {
    s += A(pow(fabs(double(x[0])), this->p));
  }
  __device__ void put(int64_t at, A s) const { this->y[at] = to_storage<T>(A(pow(double(s), 1 / this->p))); }
};

// ---- extrema

// The order of max (kLargest) or min: what does not come before anything else.
template <class A, bool kLargest>
struct Order {
  static constexpr A kLast = [] {
    using Limits = std::numeric_limits<A>;
    if (Limits::has_infinity) return kLargest ? -Limits::infinity() : Limits::infinity();
    return kLargest ? Limits::lowest() : Limits::max();
  }();
  __device__ static bool before(A a, A b) { return kLargest ? a > b : a < b; }
  __device__ static bool is_nan(A a) { return a != a; }
};

// The largest or smallest x, or |x|. A NaN wins. Of no truth values, it is false (any) or true (all).
template <class T, bool kLargest>
struct Extremum : Fold<T> {
  using A = ComparedAs<T>;
  using State = A;
  T* y;
  bool magnitude;
  explicit Extremum(T* y, bool magnitude = false) : y(y), magnitude(magnitude) {}
  __device__ State identity() const { return kSame<T, Bool> ? A(!kLargest) : Order<A, kLargest>::kLast; }
  template <int M, class Index>
  __device__ void add(State& s, const A (&x)[M], Index) const {
#pragma unroll
    for (int m = 0; m < M; m++) s = merge(s, kIsFloat<T> && magnitude && x[m] < 0 ? -x[m] : x[m]);
  }
  __device__ State merge(State a, State b) const {
    using By = Order<A, kLargest>;
    return By::before(a, b) || By::is_nan(a) ? a : b;
  }
  __device__ void put(int64_t at, State s) const { y[at] = to_storage<T>(s); }
};

// Where the extremum is: the first of equals, the first NaN.
template <class T, bool kLargest>
struct Place : Fold<T> {
  using A = ComparedAs<T>;
  using By = Order<A, kLargest>;
  static constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();
  struct State {
    A value;
    int64_t at;  // kNowhere also where all elements are the last in the order
  };
  int64_t* y;
  explicit Place(int64_t* y) : y(y) {}
  __device__ State identity() const { return {By::kLast, kNowhere}; }
  template <int M, class Index>
  __device__ void add(State& s, const A (&x)[M], Index index) const {
    int found = -1;
#pragma unroll
    for (int m = 0; m < M; m++)
      if (!By::is_nan(s.value) && (By::before(x[m], s.value) || By::is_nan(x[m]))) s.value = x[m], found = m;
    if (found >= 0) s.at = index(found);
  }
  __device__ State merge(const State& a, const State& b) const {
    const bool a_nan = By::is_nan(a.value), b_nan = By::is_nan(b.value);
    if (a_nan != b_nan) return a_nan ? a : b;
    if (By::before(a.value, b.value)) return a;
    if (By::before(b.value, a.value)) return b;
    return a.at < b.at ? a : b;
  }
  __device__ void put(int64_t at, const State& s) const { y[at] = s.at == kNowhere ? 0 : s.at; }
};

// ---- statistics

// mean = sum x / n, y = sum (x - mean)^2 / degrees
template <class T>
struct Variance : Fold<T> {
  using A = Accumulator<T>;
  static constexpr bool kNeedsFirst = true;
  static constexpr int kLoads = kSame<T, double> ? 2 : 4, kMostPack = 4;
  // Of x - shift, where shift is some x: otherwise what sums are rounded by may be as much as x deviates.
  struct State {
    A shift, count, sum, squares;  // squares: sum (x - mean)^2
  };
  T* y;
  A *mean, n, degrees;
  Variance(T* y, A* mean, A n, A degrees) : y(y), mean(mean), n(n), degrees(degrees) {}
  __device__ State identity(A first) const { return {isfinite(first) ? first : A(0), 0, 0, 0}; }
  template <int M, class Index>
  __device__ void add(State& s, const A (&x)[M], Index) const {
    A shifted[M], squares[M];
#pragma unroll
    for (int m = 0; m < M; m++) shifted[m] = x[m] - s.shift;
    State added{s.shift, A(M), sum_tree(shifted), 0};
    const A centre = added.sum * (A(1) / M);
#pragma unroll
    for (int m = 0; m < M; m++) squares[m] = (shifted[m] - centre) * (shifted[m] - centre);
    added.squares = sum_tree(squares);
    s = merge(s, added);
  }
  __device__ State merge(const State& a, const State& b) const {
    const A count = a.count + b.count, apart = b.sum / max_of_one(b.count) - a.sum / max_of_one(a.count);
    return {a.shift, count, a.sum + b.sum,
            a.squares + b.squares + apart * apart * (a.count / max_of_one(count) * b.count)};
  }
  __device__ void put(int64_t at, const State& s) const {
    mean[at] = s.shift + s.sum / n;
    y[at] = to_storage<T>(s.squares / degrees);
  }
  __device__ static A max_of_one(A count) { return fmax(count, A(1)); }
};

// m + log sum exp(x - m), m = max x where that is finite, else 0
template <class T>
struct LogSumExp : Fold<T> {
  using A = Accumulator<T>;
  using State = ExpSum<A>;
  static constexpr int kMostPack = kSame<T, double> ? 1 : 4;
  T* y;
  explicit LogSumExp(T* y) : y(y) {}
  __device__ State identity() const { return {}; }
  template <int M, class Index>
  __device__ void add(State& s, const A (&x)[M], Index) const {
    s.add(x);
  }
  __device__ State merge(State a, const State& b) const {
    a.merge(b);
    return a;
  }
  __device__ void put(int64_t at, const State& s) const { y[at] = to_storage<T>(s.shift(s.largest) + log(s.sum)); }
};

}  // namespace
}  // namespace fovea::cuda
