// channelNorm, forward and backward, against the formulas in float64: by batch and by group, all dtypes, a mean far
// from zero, and the same bits for every number of threads.
#include "ops/norm/attrs.h"
#include "ops/norm/workspace.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(norm)

namespace fovea::test {
namespace {

struct ChannelCase {
  int64_t images, channels, places, groups;
  int64_t rows() const { return groups ? images * groups : channels; }
  int64_t row_of(int64_t segment) const { return groups ? segment / (channels / groups) : segment % channels; }
};
constexpr ChannelCase kCases[] = {{1, 1, 2, 0}, {3, 5, 7, 0},    {4, 3, 1, 0},    {2, 6, 40, 3}, {3, 4, 33, 1},
                                  {2, 4, 5, 4}, {1, 3, 5000, 0}, {2, 8, 2000, 2}, {60, 20, 9, 0}};

// The tensors of a case and what they must be.
struct ChannelNorm {
  const ChannelCase& c;
  Tensor x, weight, bias, dy, y, mean, variance, dx, dweight, dbias;
  std::vector<double> means, variances, g, gx;

  ChannelNorm(const ChannelCase& c, Dtype dtype)
      : c(c),
        x(Tensor::random(dtype, {c.images, c.channels, c.places}, 1, 3, 7)),
        weight(Tensor::random(accumulator_of(dtype), {c.channels}, 2)),
        bias(Tensor::random(accumulator_of(dtype), {c.channels}, 3)),
        dy(Tensor::random(dtype, {c.images, c.channels, c.places}, 4)),
        y(dtype, {c.images, c.channels, c.places}),
        mean(accumulator_of(dtype), {c.rows()}),
        variance(accumulator_of(dtype), {c.rows()}),
        dx(dtype, {c.images, c.channels, c.places}),
        dweight(accumulator_of(dtype), {c.channels}),
        dbias(accumulator_of(dtype), {c.channels}),
        means(size_t(c.rows())),
        variances(size_t(c.rows())),
        g(size_t(c.rows())),
        gx(size_t(c.rows())) {}
  size_t row(int64_t i) const { return size_t(c.row_of(i / c.places)); }
  int64_t channel(int64_t i) const { return i / c.places % c.channels; }
  double count() const { return double(x.size()) / double(c.rows()); }
  double rstd(int64_t i) const { return 1 / std::sqrt(variances[row(i)] + 1e-5); }
  double normal(int64_t i) const { return (x.at(i) - means[row(i)]) * rstd(i); }
  void average(bool affine) {
    for (int64_t i = 0; i < x.size(); i++) means[row(i)] += x.at(i) / count();
    for (int64_t i = 0; i < x.size(); i++) variances[row(i)] += std::pow(x.at(i) - means[row(i)], 2) / count();
    for (int64_t i = 0; i < x.size(); i++) {
      const double gradient = dy.at(i) * (affine ? weight.at(channel(i)) : 1);
      g[row(i)] += gradient / count(), gx[row(i)] += gradient * normal(i) / count();
    }
  }
  void run_all(const Table& table, bool affine, int threads) {
    const ChannelNormAttrs attrs{1e-5, c.groups, c.rows()};
    const size_t bytes = channel_norm_workspace({&x.view, 1}, {}, &attrs, threads);
    Tensor *w = affine ? &weight : nullptr, *b = affine ? &bias : nullptr;
    run(table, "channelNorm", attrs, {&x, w, b}, {&y, &mean, &variance}, threads, bytes);
    run(table, "channelNormBackward", attrs, {&x, w, &mean, &variance, &dy}, {&dx, &dweight, &dbias}, threads, bytes);
  }
};

void check_channel_norm(const Table& table, const ChannelCase& c, Dtype dtype, bool affine) {
  ChannelNorm n(c, dtype);
  n.run_all(table, affine, 2);
  n.average(affine);
  const bool half = dtype == Dtype::f16 || dtype == Dtype::bf16;
  const double unit = dtype == Dtype::f64 ? 1e-12 : 4e-6;
  auto tolerance = [&](double value, double scale) { return unit * scale + (half ? ulp(dtype, value) : 0); };
  std::vector<double> dweight(size_t(c.channels)), dbias(size_t(c.channels));
  for (int64_t i = 0; i < n.x.size(); i++) {
    const double w = affine ? n.weight.at(n.channel(i)) : 1, rstd = n.rstd(i), normal = n.normal(i);
    const double y = normal * w + (affine ? n.bias.at(n.channel(i)) : 0);
    const double dx = rstd * (n.dy.at(i) * w - n.g[n.row(i)] - normal * n.gx[n.row(i)]);
    FOVEA_CHECK_CLOSE(n.y.at(i), y, tolerance(y, 4 + 5 * rstd));
    FOVEA_CHECK_CLOSE(n.dx.at(i), dx, tolerance(dx, (8 + 10 * rstd) * rstd));
    dweight[size_t(n.channel(i))] += n.dy.at(i) * normal, dbias[size_t(n.channel(i))] += n.dy.at(i);
  }
  const double terms = double(c.images * c.places);
  for (int64_t i = 0; i < c.channels; i++) {
    FOVEA_CHECK_CLOSE(n.dweight.at(i), dweight[size_t(i)], unit * 8 * (1 + terms));
    FOVEA_CHECK_CLOSE(n.dbias.at(i), dbias[size_t(i)], unit * 4 * (1 + terms));
  }
  for (int64_t row = 0; row < c.rows(); row++) {
    FOVEA_CHECK_CLOSE(n.mean.at(row), n.means[size_t(row)], unit * 8);
    FOVEA_CHECK_CLOSE(n.variance.at(row), n.variances[size_t(row)], unit * 8);
  }
  ChannelNorm other(c, dtype);
  other.run_all(table, affine, 5);
  FOVEA_CHECK(n.y.same_bits(other.y) && n.dx.same_bits(other.dx) && n.dweight.same_bits(other.dweight),
              "%s: five threads give other bits than two", table.isa);
}

}  // namespace

FOVEA_TEST(channel_norm) {
  for (const Table& table : tables_of_norm())
    for (Dtype dtype : kFloats)
      for (const ChannelCase& c : kCases)
        for (bool affine : {true, false}) check_channel_norm(table, c, dtype, affine);
}
FOVEA_TEST(channel_norm_refuses_other_means) {
  for (const Table& table : tables_of_norm()) {
    Tensor x = Tensor::random(Dtype::f32, {2, 6, 3}, 1), y(Dtype::f32, {2, 6, 3}), mean(Dtype::f32, {8}),
           variance(Dtype::f32, {8});
    const ChannelNormAttrs attrs{1e-5, 4, 8};
    FOVEA_CHECK(
        error_of(table, "channelNorm", attrs, {&x, nullptr, nullptr}, {&y, &mean, &variance}, 1024) == "FOVEA_SHAPE",
        "four groups of six channels");
  }
}

}  // namespace fovea::test
