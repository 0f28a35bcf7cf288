// layerNorm and rmsNorm on the emulated device, forward and backward, against a float64 model: all dtypes, with and
// without weight and bias, rows of a few elements and of more than a block keeps, a mean far from zero.
#include "test/emulator/harness_cuda.h"
#include "test/norm_model.h"

namespace fovea::test {
namespace {

const Shapes kShapes = {{1, 1}, {3, 5}, {7, 64}, {1030, 8}, {130, 33}, {3, 3073}, {40, 768}, {2, 4200}};

}  // namespace

FOVEA_TEST(norm_forward) { check_norm(RunCuda{}, kShapes); }
FOVEA_TEST(norm_backward) {
  // Several rows to a block with more than a warp each; rows of which not all fits in shared memory or registers.
  Shapes shapes = kShapes;
  shapes.push_back({19, 2048}), shapes.push_back({6, 20480});
  check_norm_backward(RunCuda{}, shapes);
}

FOVEA_TEST(norm_of_sums) { check_add_norm(RunCuda{}, kShapes); }

FOVEA_TEST(norm_without_rows_or_elements) {
  check_norm_backward_without_rows(RunCuda{}, 96);
  Tensor x(Dtype::f32, {3, 0}), y(Dtype::f32, {3, 0}), mean(Dtype::f32, {3}), rstd(Dtype::f32, {3});
  run_cuda("layerNorm", LayerNormAttrs{}, {&x, nullptr, nullptr}, {&y, &mean, &rstd});
  for (int64_t i = 0; i < 3; i++) FOVEA_CHECK_CLOSE(rstd.at(i), NAN, 0);
}

FOVEA_TEST(norm_keeps_nan_and_infinity_in_their_rows) {
  Tensor x = Tensor::random(Dtype::f32, {3, 40}, 1), y(Dtype::f32, {3, 40}), rstd(Dtype::f32, {3});
  x.set(3, NAN), x.set(87, INFINITY);
  run_cuda("rmsNorm", LayerNormAttrs{kNormEps}, {&x, nullptr}, {&y, &rstd});
  FOVEA_CHECK_CLOSE(y.at(0), NAN, 0);
  FOVEA_CHECK(std::isfinite(y.at(40)) && std::isfinite(y.at(79)), "the row between is %g, %g", y.at(40), y.at(79));
  FOVEA_CHECK_CLOSE(rstd.at(2), 0, 0);
  FOVEA_CHECK_CLOSE(y.at(87), NAN, 0);
  FOVEA_CHECK_CLOSE(y.at(88), 0, 0);
}

}  // namespace fovea::test
