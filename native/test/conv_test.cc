// Convolutions and their gradients, unfold and fold against their definition: all dtypes, odd sizes, strides, dilations
// and groups, depths and widths beyond a block, and the same bits for every number of threads.
#include "ops/conv/workspace.h"
#include "test/conv_model.h"

FOVEA_TEST_FAMILY(conv)

namespace fovea::test {
namespace {

using Workspace = size_t (*)(Views, Views, const void*, int);

void run_sized(const Table& table, const char* name, const ConvAttrs& attrs, Workspace workspace,
               const std::vector<Tensor*>& in, Tensor& out, int threads) {
  std::vector<View> views;
  for (Tensor* t : in) views.push_back(t ? t->view : View{});
  const size_t bytes = workspace({views.data(), int32_t(views.size())}, {&out.view, 1}, &attrs, threads);
  run(table, name, attrs, in, {&out}, threads, bytes);
}
// With 2 threads, and the same bits with 1 and 5.
void run_thrice(const Table& table, const char* name, const ConvAttrs& attrs, Workspace workspace,
                const std::vector<Tensor*>& in, Tensor& out) {
  run_sized(table, name, attrs, workspace, in, out, 2);
  for (int threads : {1, 5}) {
    Tensor again(out.dtype(), {out.view.shape, out.view.shape + out.view.rank});
    run_sized(table, name, attrs, workspace, in, again, threads);
    FOVEA_CHECK(again.same_bits(out), "%s %s: %d threads give other bits than 2", table.isa, name, threads);
  }
}

void check_conv(const Table& table, const ConvCase& c, Dtype dtype, bool biased) {
  const std::string what = std::string(table.isa) + " " + c.name();
  Tensor x = Tensor::random(dtype, c.image(), 1), weight = Tensor::random(dtype, c.weight(), 2),
         y = Tensor::random(dtype, c.result(), 3), bias = Tensor::random(dtype, {c.outs}, 4),
         back_bias = Tensor::random(dtype, {c.channels}, 5), result(dtype, c.result()), image(dtype, c.image()),
         dweight(dtype, c.weight());
  Sums forward(y.size()), backward(x.size()), of_weight(weight.size());
  each_tap(c, [&](int64_t xi, int64_t yi, int64_t wi, int64_t) {
    forward.add(yi, x.at(xi) * weight.at(wi));
    backward.add(xi, y.at(yi) * weight.at(wi));
    of_weight.add(wi, x.at(xi) * y.at(yi));
  });
  const int64_t windows = c.rows() * c.columns(), places = c.height * c.width;
  for (int64_t i = 0; biased && i < y.size(); i++) forward.add(i, bias.at(i / windows % c.outs));
  for (int64_t i = 0; biased && i < x.size(); i++) backward.add(i, back_bias.at(i / places % c.channels));
  ConvAttrs a = c.a;
  a.height = c.rows(), a.width = c.columns();
  run_thrice(table, "conv", a, conv_workspace, {&x, &weight, biased ? &bias : nullptr}, result);
  check_sums(result, forward, "conv " + what);
  a.channels = c.channels, a.height = c.height, a.width = c.width;
  run_thrice(table, "convTranspose", a, conv_transpose_workspace, {&y, &weight, biased ? &back_bias : nullptr}, image);
  check_sums(image, backward, "convTranspose " + what);
  a.channels = c.each(), a.kernelY = c.kernel_y, a.kernelX = c.kernel_x;
  run_thrice(table, "convWeight", a, conv_weight_workspace, {&x, &y}, dweight);
  check_sums(dweight, of_weight, "convWeight " + what);
}

}  // namespace

FOVEA_TEST(conv_small) {
  for (const Table& table : tables_of_conv())
    for (Dtype dtype : kFloats)
      for (const ConvCase& c : conv_cases()) check_conv(table, c, dtype, c.height % 2 == 1);
}
// Depths of several runs, more rows and columns than a block, weights' gradients of several runs and of images that are
// not all side by side, many units.
FOVEA_TEST(conv_large) {
  const ConvCase cases[] = {
      {1, 200, 40, 6, 7, 3, 3, steps(1, 1, 1, 1, 1)}, {1, 5, 300, 9, 40, 3, 3, steps(1, 1, 1, 1, 1)},
      {2, 3, 5, 90, 70, 3, 3, steps(1, 2, 1, 1, 1)},  {9, 8, 8, 12, 11, 3, 3, steps(8, 1, 1, 1, 1)},
      {1, 2, 1, 61, 70, 7, 7, steps(1, 1, 1, 3, 3)},  {1, 90, 3, 5, 5, 3, 3, steps(1, 2, 2, 1, 1)},
      {1, 1, 2, 1, 9000, 1, 9, steps(1, 1, 1, 0, 4)}, {5, 4, 4, 60, 61, 3, 3, steps(2, 1, 1, 1, 1)},
  };
  for (const Table& table : tables_of_conv())
    for (const ConvCase& c : cases) check_conv(table, c, Dtype::f32, true);
}
FOVEA_TEST(conv_weight_keeps_infinities_in_their_taps) {
  // x is infinite at the end of a line, which only the last tap sees.
  for (const Table& table : tables_of_conv()) {
    const ConvCase c{1, 1, 1, 2, 5, 1, 3, steps(1, 1, 1, 0, 0)};
    Tensor x = Tensor::random(Dtype::f32, c.image(), 1, 1, 2), y = Tensor::random(Dtype::f32, c.result(), 2, 1, 2),
           dweight(Dtype::f32, c.weight());
    x.set(4, INFINITY);
    ConvAttrs a = c.a;
    a.channels = a.kernelY = 1, a.kernelX = 3;
    run_thrice(table, "convWeight", a, conv_weight_workspace, {&x, &y}, dweight);
    FOVEA_CHECK(std::isfinite(dweight.at(0)) && std::isfinite(dweight.at(1)) && std::isinf(dweight.at(2)),
                "%s: %g %g %g", table.isa, dweight.at(0), dweight.at(1), dweight.at(2));
  }
}
FOVEA_TEST(unfold_and_fold) {
  for (const Table& table : tables_of_conv())
    for (Dtype dtype : kFloats)
      for (const ConvCase& c : conv_cases())
        check_unfold(RunOn{table, 2, size_t(2 * c.width) * sizeof(double)}, c, dtype);
}
FOVEA_TEST(conv_refuses) {
  for (const Table& table : tables_of_conv()) {
    Tensor x = Tensor::random(Dtype::f32, {1, 4, 5, 5}, 1), w = Tensor::random(Dtype::f32, {4, 2, 3, 3}, 2),
           y(Dtype::f32, {1, 4, 3, 3});
    ConvAttrs a = steps(3, 1, 1, 0, 0);
    FOVEA_CHECK(error_of(table, "conv", a, {&x, &w, nullptr}, {&y}) == "FOVEA_SHAPE", "three groups of four channels");
    a = steps(2, 0, 1, 0, 0);
    FOVEA_CHECK(error_of(table, "conv", a, {&x, &w, nullptr}, {&y}) == "FOVEA_ARGUMENT", "a stride of 0");
    // Planes of 2^32 · 2^32 places: their count is 0 modulo 2^64.
    a = steps(2, 1, int64_t(1) << 31, int64_t(1) << 31, int64_t(1) << 31);
    const View of_x[] = {x.view, w.view, View{}};
    FOVEA_CHECK(conv_workspace({of_x, 3}, {&y.view, 1}, &a, 2) == 0, "planes beyond the address space");
    FOVEA_CHECK(error_of(table, "conv", a, {&x, &w, nullptr}, {&y}) == "FOVEA_ARGUMENT", "planes beyond memory");
    Tensor image(Dtype::f32, {1, 4, 5, 5}), bias = Tensor::random(Dtype::f32, {1}, 3);
    a = steps(2, 1, 1, 0, 0), a.channels = 4, a.height = a.width = 5;
    FOVEA_CHECK(error_of(table, "convTranspose", a, {&y, &w, &bias}, {&image}) == "FOVEA_SHAPE", "a bias of 1");
  }
}

}  // namespace fovea::test
