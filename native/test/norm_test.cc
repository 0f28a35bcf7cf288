// layerNorm and rmsNorm, forward and backward, against a float64 model: all dtypes, with and without weight and bias,
// widths around the block length, a mean far from zero, and the same bits for every thread count.
#include "ops/norm/workspace.h"
#include "test/norm_model.h"

FOVEA_TEST_FAMILY(norm)

namespace fovea::test {
namespace {

const Shapes kShapes = {{1, 1}, {3, 5}, {7, 64}, {130, 33}, {4, 1025}, {40, 768}};

// Backward, where the parts of rows need a workspace.
struct RunBackward {
  const Table& table;
  int threads = 2;
  template <class Attrs>
  void operator()(const char* name, const Attrs& attrs, const std::vector<Tensor*>& in,
                  const std::vector<Tensor*>& out) const {
    run(table, name, attrs, in, out, threads, size_t(kNormParts * 2 * in[0]->view.dim(-1)) * sizeof(double));
  }
};

}  // namespace

FOVEA_TEST(norm_forward) {
  for (const Table& table : tables_of_norm()) check_norm(RunOn{table}, kShapes);
}
FOVEA_TEST(norm_backward) {
  for (const Table& table : tables_of_norm()) check_norm_backward(RunBackward{table}, kShapes);
}

FOVEA_TEST(norm_of_sums) {
  for (const Table& table : tables_of_norm()) check_add_norm(RunBackward{table}, kShapes);
}
FOVEA_TEST(norm_backward_is_the_same_for_every_thread_count) {
  for (const Table& table : tables_of_norm()) {
    const int64_t rows = 777, d = 96;
    Tensor x = Tensor::random(Dtype::f32, {rows, d}, 5), dy = Tensor::random(Dtype::f32, {rows, d}, 7),
           rstd = Tensor::random(Dtype::f32, {rows}, 8, 0.5, 2);
    Tensor dx(Dtype::f32, {rows, d}), one(Dtype::f32, {d}), five(Dtype::f32, {d});
    RunBackward{table, 1}("rmsNormBackward", NoAttrs{}, {&x, nullptr, &rstd, &dy}, {&dx, &one});
    RunBackward{table, 5}("rmsNormBackward", NoAttrs{}, {&x, nullptr, &rstd, &dy}, {&dx, &five});
    FOVEA_CHECK(one.same_bits(five), "%s", table.isa);
    check_norm_backward_without_rows(RunBackward{table}, d);
  }
}

}  // namespace fovea::test
