// Quantised weights on the emulated device: what every device must do (quantized_model.h), and the integers of the CPU.
#include "test/emulator/harness_cuda.h"
#include "test/quantized_model.h"

FOVEA_TEST_FAMILY(quantized)

namespace fovea::test {

FOVEA_TEST(quantized_blocks_are_repacked_without_loss) { check_repacking(RunCuda{}); }
FOVEA_TEST(quantized_weights_have_the_bits_of_their_definition) { check_definitions(RunCuda{}); }
FOVEA_TEST(quantized_product_is_that_of_the_integers) { check_products(RunCuda{}); }
FOVEA_TEST(quantized_product_of_int8_takes_any_width) { check_any_width(RunCuda{}); }
FOVEA_TEST(quantized_rows_do_not_change_each_other) { check_rows_alone(RunCuda{}, 203, 256); }
FOVEA_TEST(quantized_special_values) { check_special_values(RunCuda{}); }
FOVEA_TEST(quantized_refuses_what_does_not_fit) { check_refusals(RunCuda{}); }
FOVEA_TEST(quantizing_loses_little) { check_loss(RunCuda{}); }

FOVEA_TEST(quantizing_gives_the_bytes_of_the_cpu) {
  for (QuantType type : kQuantTypesTested)
    for (Dtype dtype : kFloats) {
      Tensor w = Tensor::random(dtype, {35, 512}, 21);
      w.set(40, NAN), w.set(1000, INFINITY), w.set(2000, 1e30), w.set(3000, 1e-40);
      Tensor there = quantized(RunCuda{}, type, w);
      for (const Table& table : tables_of_quantized())
        FOVEA_CHECK(there.same_bits(quantized(RunOn{table}, type, w)), "%s type %d", table.isa, int(type));
    }
}
FOVEA_TEST(quantized_without_rows_or_depth) {
  Tensor none(Dtype::f32, {0, 32}), w(Dtype::f32, {3, 0}), x(Dtype::f32, {2, 0}), bias(Dtype::f32, {3});
  for (int64_t i = 0; i < 3; i++) bias.set(i, double(i) + 1);
  for (QuantType type : {QuantType::q8_0, QuantType::int8}) {
    Tensor packed = quantized(RunCuda{}, type, w), y = linear(RunCuda{}, type, x, packed, 3, &bias);
    for (int64_t i = 0; i < 6; i++) FOVEA_CHECK_CLOSE(y.at(i), double(i % 3) + 1, 0);
    Tensor empty = quantized(RunCuda{}, type, none);
    FOVEA_CHECK(empty.size() == 0, "%lld bytes", (long long)empty.size());
  }
}

}  // namespace fovea::test
