// Kernels that write a tensor without reading one, on the emulated device against those of the CPU.
#include "ops/creation/attrs.h"
#include "test/emulator/harness_cuda.h"

FOVEA_TEST_FAMILY(creation)

namespace fovea::test {
namespace {

template <class Attrs, class Make>
void check(const char* name, const Attrs& attrs, Make make) {
  Tensor value = make(), expected = make();
  run_cuda(name, attrs, {&value}, {});
  run(tables_of_creation()[0], name, attrs, {&expected}, {});
  FOVEA_CHECK(value.same_bits(expected), "%s %s of %lld", name, name_of(value.dtype()), (long long)value.size());
}

}  // namespace

FOVEA_TEST(creation_fill) {
  for (Dtype dtype : kAll)
    for (double value : {0.0, -0.0, 2.75, -300.6, 1e30, double(NAN), double(-INFINITY), 0x1p53}) {
      for (int64_t n : {0, 1, 15, 16, 17, 1000, 4097})
        check("fill_", FillAttrs{value}, [&] { return Tensor(dtype, {n}); });
      check("fill_", FillAttrs{value}, [&] { return Tensor(dtype, {}); });
      check("fill_", FillAttrs{value}, [&] { return Tensor::strided(dtype, {5, 3, 16}, {1, 0, 2}); });
      check("fill_", FillAttrs{value}, [&] { return Tensor::strided(dtype, {5, 3, 16}, {2, 1, 0}, 3); });
      check("fill_", FillAttrs{value}, [&] {
        Tensor x(dtype, {40});
        x.view.data += kDtypeBytes[int(dtype)], x.view.shape[0] = 33;  // begins in the middle of a pack
        return x;
      });
    }
}

FOVEA_TEST(creation_arange) {
  for (Dtype dtype : kAll) {
    if (dtype == Dtype::boolean) continue;
    const ArangeAttrs cases[] = {{3, 2}, {0.5, 0.25}, {-7, -1}, {1e9, 1e8}, {0x1p53 - 2, 1}, {100, -0.75}};
    for (const ArangeAttrs& attrs : cases)
      for (int64_t n : {0, 1, 40, 1037}) {
        check("arange_", attrs, [&] { return Tensor(dtype, {n}); });
        check("arange_", attrs, [&] { return Tensor::strided(dtype, {n}, {0}, 2); });
      }
  }
  // Rounded once: the CPU fuses, too, where it can.
  Tensor x(Dtype::f64, {1000});
  run_cuda("arange_", ArangeAttrs{0.1, 0.3}, {&x}, {});
  for (int64_t i = 0; i < x.size(); i++) FOVEA_CHECK_CLOSE(x.at(i), std::fma(double(i), 0.3, 0.1), 0);
}

}  // namespace fovea::test
