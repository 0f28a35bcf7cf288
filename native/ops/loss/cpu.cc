// Cross entropy of class logits against class numbers, one row at a time, s = labelSmoothing:
//
//   lse = m + log sum exp(x - m)          loss = lse - (1 - s) x[target] - s mean(x)
//   dlogits = dloss (exp(x - lse) - (1 - s) [class = target] - s / c)
//
// Rows whose target is ignoreIndex have loss 0 and gradient 0.
#include "cpu/math.h"
#include "cpu/rows.h"
#include "ops/loss/attrs.h"

namespace fovea::FOVEA_ISA {
namespace {

void check_target(const Call& call, int64_t target, int64_t row, int64_t classes) {
  if (target < 0 || target >= classes)
    call.fail("FOVEA_INDEX",
              "target[%lld] is %lld, but there are %lld classes; use ignoreIndex for rows that do not count",
              static_cast<long long>(row), static_cast<long long>(target), static_cast<long long>(classes));
}

template <class A>
A log_sum_exp(const Source<A>& logits, int64_t at, int64_t classes) {
  Buffer<A> buffer;
  A maximum = fold_blocks<A>(classes, Maximum(), [&](int64_t begin, int64_t count) {
    const A* x = logits.block(at + begin, count, buffer);
    return fold_vectors<A>(count, Maximum(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(x + i, lanes); });
  });
  if (__builtin_isinf(maximum)) maximum = 0;
  const Vec<A> m = splat<A>(maximum);
  A sum = fold_blocks<A>(classes, Add(), [&](int64_t begin, int64_t count) {
    const A* x = logits.block(at + begin, count, buffer);
    return fold_vectors<A>(count, Add(),
                           [&](int64_t i, int64_t lanes) FOVEA_FLAT { return exp(load(x + i, lanes) - m); });
  });
  return maximum + A(__builtin_log(double(sum)));
}

template <class A>
A row_mean(const Source<A>& logits, int64_t at, int64_t classes) {
  Buffer<A> buffer;
  A sum = fold_blocks<A>(classes, Add(), [&](int64_t begin, int64_t count) {
    const A* x = logits.block(at + begin, count, buffer);
    return fold_vectors<A>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT { return load(x + i, lanes); });
  });
  return sum / A(classes);
}

void cross_entropy(Call& call, const CrossEntropyAttrs& attrs) {
  const View &x = call.in[0], &target = call.in[1];
  const int64_t rows = x.dim(0), classes = x.dim(1);
  dispatch_compute(x.dtype, [&]<class A>() {
    const Source<A> logits(x);
    const A smoothing = A(attrs.labelSmoothing);
    A *loss = call.out[0].as<A>(), *lse = call.out[1].as<A>();
    call.parallel.for_range(rows, row_grain(2 * classes), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * x.stride(0), label = target.as<int64_t>()[row * target.stride(0)];
        lse[row] = log_sum_exp(logits, at, classes);
        loss[row] = 0;
        if (label == attrs.ignoreIndex) continue;
        check_target(call, label, row, classes);
        A buffer;
        loss[row] = lse[row] - (1 - smoothing) * *logits.block(at + label, 1, &buffer);
        // Not multiplied by zero, since the mean may be infinite.
        if (smoothing != 0) loss[row] -= smoothing * row_mean(logits, at, classes);
      }
    });
  });
}

// forward: loss = lse - (1 - s) x[target] - s mean(x). The gradient may be written where the logits are.
template <class A>
void gradient_row(const Source<A>& logits, const Target<A>& gradient, int64_t at, int64_t classes, int64_t label, A lse,
                  A dloss, A smoothing) {
  Buffer<A> in, out;
  const Vec<A> shift = splat<A>(lse), scale = splat<A>(dloss), even = splat<A>(smoothing / A(classes));
  for_blocks(classes, [&](int64_t begin, int64_t count) {
    const A* x = logits.block(at + begin, count, in);
    A* dx = gradient.block(at + begin, out);
    const bool hit = label >= begin && label < begin + count;
    const A p = hit ? exp(splat<A>(x[label - begin] - lse))[0] : A(0);
    for_vectors<A>(count, [&](int64_t i, int64_t lanes)
                              FOVEA_FLAT { store(dx + i, (exp(load(x + i, lanes) - shift) - even) * scale, lanes); });
    // The difference first, as p is often near 1 and the product would lose what is left of it.
    if (hit) dx[label - begin] = (p - (1 - smoothing) - smoothing / A(classes)) * dloss;
    gradient.commit(dx, at + begin, count);
  });
}

void cross_entropy_backward(Call& call, const CrossEntropyAttrs& attrs) {
  const View &x = call.in[0], &dx = call.out.size() ? call.out[0] : x;
  const int64_t rows = x.dim(0), classes = x.dim(1), *target = call.in[1].as<int64_t>();
  dispatch_compute(x.dtype, [&]<class A>() {
    const Source<A> logits(x);
    const Target<A> gradient(dx);
    const A *lse = call.in[2].as<A>(), *dloss = call.in[3].as<A>();
    call.parallel.for_range(rows, row_grain(2 * classes), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        if (target[row] == attrs.ignoreIndex) {
          __builtin_memset(dx.data + row * classes * int64_t(bytes_of(x.dtype)), 0,
                           size_t(classes) * bytes_of(x.dtype));
          continue;
        }
        check_target(call, target[row], row, classes);
        gradient_row(logits, gradient, row * classes, classes, target[row], lse[row], dloss[row],
                     A(attrs.labelSmoothing));
      }
    });
  });
}

}  // namespace

FOVEA_KERNELS(loss, FOVEA_KERNEL("crossEntropy", cross_entropy, CrossEntropyAttrs),
              FOVEA_KERNEL("crossEntropyBackward", cross_entropy_backward, CrossEntropyAttrs),
              FOVEA_KERNEL("crossEntropyBackward_", cross_entropy_backward, CrossEntropyAttrs))

}  // namespace fovea::FOVEA_ISA
