// adafactor_ against its formula in ops/optim/op.cc in float64, over several steps, on the CPU and on emulated devices:
// vectors, matrices in one part and in several, stacks of small and of large ones, and tensors without elements.
#pragma once
#include <numeric>

#include "test/optim_model.h"

namespace fovea::test {

// A parameter and what the formula makes of it; `row` is of vectors the average of squares itself.
struct AdafactorModel {
  std::vector<int64_t> shape;
  Tensor p, g, row, col, whole;
  std::vector<double> rows, columns;

  AdafactorModel(Dtype dtype, std::vector<int64_t> given, uint64_t seed)
      : shape(std::move(given)), p(Tensor::random(dtype, shape, seed, -0.3, 0.5)), g(dtype, shape) {
    const Dtype wide = accumulator_of(dtype);
    std::vector<int64_t> of_rows = shape, of_columns = shape;
    if (factored()) of_rows[shape.size() - 1] = 1, of_columns[shape.size() - 2] = 1;
    for (auto [tensor, of] : {std::pair{&row, &of_rows}, std::pair{&col, &of_columns}, std::pair{&whole, &shape}}) {
      *tensor = Tensor(wide, *of);
      tensor->fill(std::vector<double>(size_t(tensor->size()), 0));
    }
    rows = row.values(), columns = col.values();
  }
  bool factored() const { return shape.size() >= 2; }
  void add_to(std::vector<Tensor*>& in) {
    Tensor* averages[3] = {&row, &col, nullptr};
    if (!factored()) averages[0] = averages[1] = nullptr, averages[2] = &whole;
    in.insert(in.end(), {&p, &g, averages[0], averages[1], averages[2]});
  }

  // The averages by which this step divides, element by element.
  std::vector<double> divisors(const AdafactorAttrs& a, double least) {
    const double newest = std::pow(double(a.step), a.beta2Decay);
    const std::vector<double> gradient = g.values();
    const size_t size = size_t(p.size()), n = factored() ? size_t(shape.back()) : 1;
    const size_t m = factored() ? size_t(shape[shape.size() - 2]) : size;
    if (size == 0) return {};  // and the averages stay as they are
    std::vector<double> by_row(rows.size(), 0), by_column(columns.size(), 0), result(size);
    for (size_t i = 0; i < size; i++) {
      const double square = gradient[i] * gradient[i];
      by_row[i / n] += square;
      if (factored()) by_column[i / n / m * n + i % n] += square;
    }
    for (size_t i = 0; i < rows.size(); i++) rows[i] += newest * (by_row[i] / double(n) - rows[i]);
    for (size_t i = 0; factored() && i < columns.size(); i++)
      columns[i] += newest * (by_column[i] / double(m) - columns[i]);
    for (size_t i = 0; i < size; i++) {
      const size_t matrix = i / n / m;
      const auto first = rows.begin() + std::ptrdiff_t(matrix * m);
      const double mean = std::accumulate(first, first + std::ptrdiff_t(m), 0.0) / double(m);
      result[i] = factored() ? rows[i / n] * columns[matrix * n + i % n] / std::max(mean, least) : rows[i];
      result[i] = std::max(result[i], least * least);
    }
    return result;
  }
  std::vector<double> next(const AdafactorAttrs& a) {
    const double n = double(p.size()), least = a.eps1 < 0 ? epsilon(p.dtype()) : a.eps1;
    const std::vector<double> divided = divisors(a, least), x = p.values();
    std::vector<double> u = g.values();
    for (size_t i = 0; i < u.size(); i++) u[i] /= std::sqrt(divided[i]);
    const double scale = std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / n);
    const double size = std::sqrt(std::inner_product(u.begin(), u.end(), u.begin(), 0.0) / n);
    const double alpha = std::max(a.eps2, scale) * std::min(a.lr, 1 / std::sqrt(double(a.step)));
    const double rate = alpha / std::max(1.0, size / a.d) * (a.maximize ? -1 : 1);
    std::vector<double> result;
    for (size_t i = 0; i < x.size(); i++) result.push_back(x[i] * (1 - a.lr * a.weightDecay) - rate * u[i]);
    return result;
  }
  void check(const std::vector<double>& expected) const {
    const auto same = [](const Tensor& tensor, const std::vector<double>& values) {
      for (int64_t i = 0; i < tensor.size(); i++)
        FOVEA_CHECK_CLOSE(tensor.at(i), values[size_t(i)], optim_tolerance(tensor.dtype(), values[size_t(i)]));
    };
    same(p, expected), same(factored() ? row : whole, rows);
    if (factored()) same(col, columns);
  }
};

template <class Run>
void check_adafactor_op(const Run& run) {
  const std::vector<std::vector<int64_t>> small{{},       {17},    {0, 4},        {3, 5}, {90, 400},
                                                {600, 1}, {1, 40}, {50, 8, 3, 3}, {3, 0}};
  const std::vector<std::vector<int64_t>> large{{33000}, {65, 1030}, {5}, {2, 66, 512}};
  const AdafactorAttrs variants[] = {
      {.lr = 0.05},
      {.lr = 0.3, .beta2Decay = -0.5, .eps1 = 1e-3, .eps2 = 0.7, .d = 1.5, .weightDecay = 0.1, .maximize = true}};
  for (Dtype dtype : kFloats)
    for (AdafactorAttrs attrs : variants) {
      std::vector<AdafactorModel> all;
      for (const auto& shape : attrs.maximize ? small : large) all.emplace_back(dtype, shape, all.size());
      for (attrs.step = 1; attrs.step <= 3; attrs.step++) {
        std::vector<Tensor*> in;
        std::vector<std::vector<double>> expected;
        for (AdafactorModel& one : all) {
          one.g.fill_random(uint64_t(100 * attrs.step) + expected.size());
          expected.push_back(one.next(attrs));
          one.add_to(in);
        }
        run("adafactor_", attrs, in, {});
        for (size_t t = 0; t < all.size(); t++) all[t].check(expected[t]);
      }
    }
  Tensor p = Tensor::random(Dtype::f32, {4, 3}, 1), row(Dtype::f32, {4, 1}), col(Dtype::f32, {1, 3});
  const auto code = [&](Tensor* a, Tensor* b, Tensor* c) {
    return code_of([&] { run("adafactor_", AdafactorAttrs{}, {&p, &p, a, b, c}, {}); });
  };
  FOVEA_CHECK(code(&col, &row, nullptr) == "FOVEA_SHAPE", "averages of other sizes");
  FOVEA_CHECK(code(nullptr, nullptr, &p) == "FOVEA_SHAPE", "a matrix with whole averages");
  FOVEA_CHECK(code(&row, nullptr, nullptr) == "FOVEA_SHAPE", "no columns");
  // A NaN of the gradient shows.
  row.fill({0, 0, 0, 0}), col.fill({0, 0, 0});
  Tensor g = Tensor::random(Dtype::f32, {4, 3}, 2);
  g.set(5, NAN);
  run("adafactor_", AdafactorAttrs{}, {&p, &g, &row, &col, nullptr}, {});
  FOVEA_CHECK_CLOSE(p.at(5), NAN, 0);
}

// More tensors than one launch takes, of several dtypes.
template <class Run>
void check_adafactor_many(const Run& run) {
  std::vector<AdafactorModel> all;
  for (int i = 0; i < 70; i++) {
    const std::vector<int64_t> shape = i % 3 == 0 ? std::vector<int64_t>{i % 7} : std::vector<int64_t>{i % 5 + 1, 9};
    all.emplace_back(i % 30 == 7 ? Dtype::f16 : Dtype::f32, shape, uint64_t(i));
  }
  std::vector<Tensor*> in;
  std::vector<std::vector<double>> expected;
  for (AdafactorModel& one : all) {
    one.g.fill_random(uint64_t(200 + expected.size()));
    expected.push_back(one.next(AdafactorAttrs{.lr = 0.05}));
    one.add_to(in);
  }
  run("adafactor_", AdafactorAttrs{.lr = 0.05}, in, {});
  for (size_t t = 0; t < all.size(); t++) all[t].check(expected[t]);
}

}  // namespace fovea::test
