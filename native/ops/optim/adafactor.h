// adafactor_ on the CPU (formula in op.cc), in four passes over the parts of all tensors: averages of squares and the
// weights' squares; columns of matrices in several parts; squares of the updates; the parameters. Sums are float64.
// Included by per-instruction-set files only.
#pragma once
#include "cpu/rows.h"
#include "ops/optim/adafactor_plan.h"
#include "ops/optim/squares.h"

namespace fovea::FOVEA_ISA {
namespace {

// One tensor and what is kept of its parts.
template <class A>
class AdafactorPass {
 public:
  AdafactorPass(const View* in, const AdafactorTensor& tensor, const AdafactorSums& sums, const AdafactorRates& rates)
      : in_(in), t_(tensor), sums_(sums), rates_(rates), p_(in[0]), g_(in[1]), updated_(in[0]) {}

  void averages(int64_t number) const {
    const AdafactorPart part = part_of(t_, number);
    const int64_t begin = (part.matrix * t_.rows + part.row) * t_.columns;
    const int64_t count = part.matrices * part.rows * t_.columns;
    sums_.weights[t_.first_part + number] = sum_of_squares<A>(in_[0], begin, begin + count);
    if (!t_.factored) return follow_all(begin, count);
    for (int64_t m = 0; m < part.matrices; m++) {
      const double total = follow_matrix(part.matrix + m, part, number);
      if (t_.splits > 1) sums_.rows[t_.first_part + number] = total;
      else set_mean(part.matrix + m, total);
    }
  }
  // Of the matrix that this part is the first of.
  void columns(int64_t number) const {
    if (!t_.factored || t_.splits == 1 || number % t_.splits != 0) return;
    const int64_t matrix = number / t_.splits;
    double total = 0, *sum = column_sums(number);
    for (int64_t s = 0; s < t_.splits; s++) {
      total += sums_.rows[t_.first_part + number + s];
      const double* more = column_sums(number + s);
      for (int64_t c = 0; s > 0 && c < t_.columns; c++) sum[c] += more[c];
    }
    set_mean(matrix, total);
    follow_columns(matrix, 0, t_.columns, sum);
  }
  void updates(int64_t number) const {
    double total = 0;
    for_segments(number, [&](int64_t at, int64_t count, const A* divisors) {
      Buffer<A> buffer, squares;
      const A* g = g_.block(at, count, buffer);
      for (int64_t i = 0; i < count; i++) squares[i] = g[i] * g[i] / divisors[i];
      for (int64_t i = 0; i < count; i++) total += double(squares[i]);
    });
    sums_.updates[t_.first_part + number] = total;
  }
  void parameters(int64_t number, double given) const {
    const A rate = A(given), kept = A(rates_.kept);
    for_segments(number, [&](int64_t at, int64_t count, const A* divisors) {
      Buffer<A> p_buffer, g_buffer;
      p_.block(at, count, p_buffer);
      const A* g = g_.block(at, count, g_buffer);
      A* p = updated_.block(at, p_buffer);
      for (int64_t i = 0; i < count; i++) p[i] = p[i] * kept - rate * g[i] / root_of(divisors[i]);
      updated_.commit(p, at, count);
    });
  }

 private:
  A* row() const { return in_[2].template as<A>(); }
  A* column() const { return in_[3].template as<A>(); }
  A* whole() const { return in_[4].template as<A>(); }
  double* column_sums(int64_t number) const { return sums_.columns + t_.first_sum + number * t_.columns; }
  void set_mean(int64_t matrix, double total) const {
    const double mean = total / double(t_.rows);
    sums_.means[t_.first_matrix + matrix] = mean < rates_.least ? rates_.least : mean;
  }

  void follow_all(int64_t begin, int64_t count) const {
    for_blocks(count, [&](int64_t offset, int64_t n) {
      Buffer<A> buffer;
      const A* g = g_.block(begin + offset, n, buffer);
      A* v = whole() + begin + offset;
      for (int64_t i = 0; i < n; i++) v[i] = rates_.follow(v[i], g[i] * g[i]);
    });
  }
  void follow_columns(int64_t matrix, int64_t from, int64_t count, const double* sum) const {
    A* to = column() + matrix * t_.columns + from;
    for (int64_t c = 0; c < count; c++) to[c] = rates_.follow(to[c], A(sum[c] / double(t_.rows)));
  }
  // The part's rows of a matrix. Returns the sum of their averages.
  double follow_matrix(int64_t matrix, const AdafactorPart& part, int64_t number) const {
    double of_rows[kMostRows] = {}, total = 0;
    const int64_t first = matrix * t_.rows + part.row;
    for_blocks(t_.columns, [&](int64_t from, int64_t count) {
      double of_columns[kBlock] = {};
      for (int64_t r = 0; r < part.rows; r++) {
        Buffer<A> buffer;
        double squares[kBlock], sum = 0;
        const A* g = g_.block((first + r) * t_.columns + from, count, buffer);
        for (int64_t c = 0; c < count; c++) squares[c] = double(g[c]) * double(g[c]), of_columns[c] += squares[c];
        sum = fold_vectors<double>(count, Add(), [&](int64_t i, int64_t lanes) FOVEA_FLAT {
          return load(static_cast<const double*>(squares) + i, lanes);
        });
        of_rows[r] += sum;
      }
      if (t_.splits == 1) return follow_columns(matrix, from, count, of_columns);
      for (int64_t c = 0; c < count; c++) column_sums(number)[from + c] = of_columns[c];
    });
    A* to = row() + first;
    for (int64_t r = 0; r < part.rows; r++) {
      to[r] = rates_.follow(to[r], A(of_rows[r] / double(t_.columns)));
      total += double(to[r]);
    }
    return total;
  }

  // body(first element, count, the averages of squares, which updates are divided by the roots of).
  template <class Body>
  void for_segments(int64_t number, Body body) const {
    const AdafactorPart part = part_of(t_, number);
    const A least = A(rates_.least * rates_.least);
    Buffer<A> divisors;
    if (!t_.factored)
      return for_blocks(part.rows, [&](int64_t offset, int64_t count) {
        const A* v = whole() + part.row + offset;
        for (int64_t i = 0; i < count; i++) divisors[i] = v[i] < least ? least : v[i];
        body(part.row + offset, count, divisors);
      });
    for (int64_t r = 0; r < part.matrices * part.rows; r++) {
      const int64_t matrix = part.matrix + r / part.rows, at = matrix * t_.rows + part.row + r % part.rows;
      const A share = A(double(row()[at]) / sums_.means[t_.first_matrix + matrix]);
      for_blocks(t_.columns, [&](int64_t from, int64_t count) {
        const A* of_column = column() + matrix * t_.columns + from;
        for (int64_t i = 0; i < count; i++) {
          const A v = share * of_column[i];
          divisors[i] = v < least ? least : v;
        }
        body(at * t_.columns + from, count, divisors);
      });
    }
  }

  const View* in_;
  const AdafactorTensor& t_;
  const AdafactorSums& sums_;
  const AdafactorRates& rates_;
  const Source<A> p_, g_;
  const Target<A> updated_;
};

// body(pass over its tensor, number of the part in it) for every part.
template <class Body>
void for_parts(Call& call, const AdafactorAttrs& attrs, const AdafactorTensor* tensors, const AdafactorTotals& all,
               const AdafactorSums& sums, Body body) {
  const int64_t count = call.in.size() / kAdafactorInputs;
  call.parallel.for_each(all.parts, [&](int64_t chunk, int) {
    int64_t low = 0;  // the last tensor whose parts begin at or before `chunk`; those without parts come before it
    for (int64_t high = count; high - low > 1;) {
      const int64_t middle = (low + high) / 2;
      (tensors[middle].first_part <= chunk ? low : high) = middle;
    }
    const View* in = &call.in[low * kAdafactorInputs];
    const AdafactorRates rates(attrs, in->dtype);
    dispatch_compute(in->dtype, [&]<class A>() {
      body(AdafactorPass<A>(in, tensors[low], sums, rates), chunk - tensors[low].first_part, low);
    });
  });
}

void adafactor(Call& call, const AdafactorAttrs& attrs) {
  check_adafactor(call);
  const int64_t count = call.in.size() / kAdafactorInputs;
  AdafactorTensor* tensors = call.scratch<AdafactorTensor>();
  double* rates = call.scratch<double>(size_t(count) * sizeof(AdafactorTensor));
  AdafactorTotals all;
  for (int64_t i = 0; i < count; i++) tensors[i] = all.add(call.in[i * kAdafactorInputs]);
  const AdafactorSums sums(rates + count, all);
  const auto pass = [&](auto body) { for_parts(call, attrs, tensors, all, sums, body); };
  pass([](const auto& tensor, int64_t part, int64_t) { tensor.averages(part); });
  pass([](const auto& tensor, int64_t part, int64_t) { tensor.columns(part); });
  pass([](const auto& tensor, int64_t part, int64_t) { tensor.updates(part); });
  for (int64_t i = 0; i < count; i++) {
    const AdafactorTensor& t = tensors[i];
    double weights = 0, updates = 0;
    for (int64_t k = t.first_part; k < t.first_part + t.parts; k++)
      weights += sums.weights[k], updates += sums.updates[k];
    const double n = double(t.size());
    rates[i] = AdafactorRates(attrs, call.in[i * kAdafactorInputs].dtype).rate(weights / n, updates / n);
  }
  pass([&](const auto& tensor, int64_t part, int64_t i) { tensor.parameters(part, rates[i]); });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
