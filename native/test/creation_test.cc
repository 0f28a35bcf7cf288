// fill_ and arange_ on every dtype and layout.
#include "ops/creation/attrs.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(creation)

using namespace fovea;
using namespace fovea::test;

FOVEA_TEST(creation_fill) {
  for (const Table& t : tables_of_creation())
    for (Dtype dtype : kAll)
      for (int64_t n : {0, 1, 17, 70000}) {
        Tensor x(dtype, {n}), y = Tensor::strided(dtype, {3, n % 100}, {1, 0}, 3);
        run(t, "fill_", FillAttrs{2.75}, {&x}, {}), run(t, "fill_", FillAttrs{2.75}, {&y}, {});
        double expected = dtype == Dtype::boolean ? 1 : set_of(dtype) & kFloatTypes ? 2.75 : 2;
        for (double v : x.values()) FOVEA_CHECK_CLOSE(v, expected, 0);
        for (double v : y.values()) FOVEA_CHECK_CLOSE(v, expected, 0);
      }
}

FOVEA_TEST(creation_arange) {
  for (const Table& t : tables_of_creation())
    for (Dtype dtype : kAll) {
      if (dtype == Dtype::boolean) continue;
      Tensor x = Tensor::strided(dtype, {40}, {0}, -2);
      run(t, "arange_", ArangeAttrs{.start = 3, .step = 2}, {&x}, {});
      for (int64_t i = 0; i < x.size(); i++) FOVEA_CHECK_CLOSE(x.at(i), 3 + 2 * double(i), 0);
      run(t, "arange_", ArangeAttrs{.start = 0.5, .step = 0.25}, {&x}, {});
      for (int64_t i = 0; i < x.size(); i++)
        FOVEA_CHECK_CLOSE(x.at(i),
                          set_of(dtype) & kFloatTypes ? 0.5 + 0.25 * double(i) : std::trunc(0.5 + 0.25 * double(i)), 0);
    }
  for (const Table& t : tables_of_creation()) {
    Tensor big(Dtype::i64, {3});
    run(t, "arange_", ArangeAttrs{.start = 0x1p53 - 2, .step = 1}, {&big}, {});
    FOVEA_CHECK(big.at(2) == 0x1p53, "exact up to 2^53");
  }
}
