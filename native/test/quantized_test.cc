// Quantised weights on the CPU: what every device must do (quantized_model.h), and results that do not depend on rows
// beside them, on threads or on the instruction set.
#include "test/quantized_model.h"

FOVEA_TEST_FAMILY_WITH_AMX(quantized)

namespace fovea::test {
namespace {

struct RunQuantized {
  const Table& table;
  int threads = 2;
  void operator()(const char* name, const DequantizeAttrs& attrs, const std::vector<Tensor*>& in,
                  const std::vector<Tensor*>& out) const {
    run(table, name, attrs, in, out, threads);
  }
  void operator()(const char* name, const QuantizedAttrs& attrs, const std::vector<Tensor*>& in,
                  const std::vector<Tensor*>& out) const {
    int64_t bytes = 0;
    if (in.size() == 3)  // quantizedLinear
      bytes = product_workspace(QuantType(attrs.type), in[0]->view.shape[0], in[0]->view.shape[1], threads);
    run(table, name, attrs, in, out, threads, size_t(bytes));
  }
  std::string where() const { return table.isa; }
};
template <class Check>
void for_tables(Check&& check) {
  for (const Table& table : tables_of_quantized()) check(RunQuantized{table});
}

}  // namespace

FOVEA_TEST(quantized_blocks_are_repacked_without_loss) {
  for_tables([](auto run) { check_repacking(run); });
}
FOVEA_TEST(quantized_weights_have_the_bits_of_their_definition) {
  for_tables([](auto run) { check_definitions(run); });
}
FOVEA_TEST(quantized_product_is_that_of_the_integers) {
  for_tables([](auto run) { check_products(run); });
}
FOVEA_TEST(quantized_product_of_int8_takes_any_width) {
  for_tables([](auto run) { check_any_width(run); });
}
FOVEA_TEST(quantized_special_values) {
  for_tables([](auto run) { check_special_values(run); });
}
FOVEA_TEST(quantized_refuses_what_does_not_fit) {
  for_tables([](auto run) { check_refusals(run); });
}
FOVEA_TEST(quantizing_loses_little) {
  for_tables([](auto run) { check_loss(run); });
}

FOVEA_TEST(quantized_threads_do_not_change_the_result) {
  for_tables([](RunQuantized run) {
    for (QuantType type : kQuantTypesTested) {
      Tensor w = Tensor::random(Dtype::f32, {37, 256}, 1), x = Tensor::random(Dtype::f32, {1031, 256}, 2);
      Tensor packed = quantized(run, type, w);
      Tensor one = linear(RunQuantized{run.table, 1}, type, x, packed, 37);
      FOVEA_CHECK(one.same_bits(linear(RunQuantized{run.table, 3}, type, x, packed, 37)), "%s type %d", run.table.isa,
                  int(type));
    }
  });
}
FOVEA_TEST(quantized_rows_do_not_change_each_other) {
  for_tables([](auto run) {
    check_rows_alone(run, 1031, 256);
    check_rows_alone(run, 45, 17 * 32);
    check_rows_alone(run, 33, 5 * 256);
  });
}

FOVEA_TEST(quantizing_gives_the_same_integers_everywhere) {
  for (QuantType type : kQuantTypesTested)
    for (Dtype dtype : kFloats) {
      Tensor w = Tensor::random(dtype, {35, 512}, 21), first;
      for (const Table& table : tables_of_quantized()) {
        Tensor packed = quantized(RunQuantized{table}, type, w);
        if (first.view.present()) FOVEA_CHECK(packed.same_bits(first), "%s type %d", table.isa, int(type));
        else first = std::move(packed);
      }
    }
}

}  // namespace fovea::test
