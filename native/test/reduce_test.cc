// Reductions against a float64 model: all dtypes, layouts that take each of the kernel's ways (rows, columns, pieces,
// gathered), sizes around the block and vector lengths, NaN, infinities and empty axes.
#include "test/reduce_model.h"

FOVEA_TEST_FAMILY(reduce)

namespace fovea::test {
namespace {

constexpr size_t kWorkspace = size_t(18) * 8192 * 8;

std::vector<Tensor> layouts(Dtype dtype, int64_t rows, int64_t n) {
  std::vector<Tensor> list = common_layouts(dtype, rows, n);
  list.push_back(Tensor::strided(dtype, {1, rows, 2, n}, {0, 1, 3, 2}));
  return list;
}
// The last two are cut in pieces; one type takes them, so that the test is quick under sanitizers and qemu.
Shapes shapes_for(Dtype dtype) {
  Shapes shapes = {{1, 1}, {3, 7}, {5, 64}, {17, 33}, {11, 1025}, {530, 5}};
  if (dtype == Dtype::f32) shapes.push_back({2, 70001}), shapes.push_back({600, 230});
  return shapes;
}

Reductions<RunOn> on(const Table& table, size_t workspace = kWorkspace) {
  return {{table, 2, workspace}, layouts, shapes_for};
}

}  // namespace

FOVEA_TEST(reduce_sum_and_mean) {
  for (const Table& table : tables_of_reduce()) check_sum_and_mean(on(table));
}
FOVEA_TEST(reduce_extrema) {
  for (const Table& table : tables_of_reduce()) check_extrema(on(table));
}
FOVEA_TEST(reduce_extremum_indices) {
  for (const Table& table : tables_of_reduce()) check_extremum_indices(on(table));
}
FOVEA_TEST(reduce_product_and_truth) {
  for (const Table& table : tables_of_reduce()) check_product_and_truth(on(table));
}
FOVEA_TEST(reduce_norms) {
  for (const Table& table : tables_of_reduce()) check_norms(on(table));
}
FOVEA_TEST(reduce_logsumexp) {
  for (const Table& table : tables_of_reduce()) check_logsumexp(on(table));
}
FOVEA_TEST(reduce_variance) {
  for (const Table& table : tables_of_reduce()) check_variance(on(table));
}
FOVEA_TEST(reduce_cumsum) {
  for (const Table& table : tables_of_reduce()) check_cumsum<double>(on(table, 0), {{3, 7}, {11, 1025}, {1, 5000}});
}
FOVEA_TEST(reduce_special_values) {
  for (const Table& table : tables_of_reduce())
    check_reduced_special_values(RunOn{table, 2, 4096}), check_reductions_of_nothing(RunOn{table});
}

FOVEA_TEST(reduce_sum_is_accurate_and_the_same_for_every_thread_count) {
  for (const Table& table : tables_of_reduce())
    for (int layout = 0; layout < 2; layout++) {
      Tensor x = layout ? Tensor::strided(Dtype::f32, {16, 100000}, {1, 0}) : Tensor(Dtype::f32, {16, 100000});
      for (int64_t i = 0; i < x.size(); i++) x.set(i, 0.1);
      Tensor one(Dtype::f32, {16}), four(Dtype::f32, {16});
      run(table, "sum", NoAttrs{}, {&x}, {&one}, 1, kWorkspace);
      run(table, "sum", NoAttrs{}, {&x}, {&four}, 4, kWorkspace);
      FOVEA_CHECK(one.same_bits(four), "%s", table.isa);
      FOVEA_CHECK_CLOSE(one.at(0), 100000 * double(0.1f), 100000 * 0.1 * 2 * std::sqrt(100000.) * 0x1p-23);
    }
}

}  // namespace fovea::test
