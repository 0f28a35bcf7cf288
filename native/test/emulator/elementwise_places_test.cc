// The host's side of elementwise kernels: divisions by multiplication, and views of more elements than 32 bits count.
#include "ops/elementwise/cuda_places.h"
#include "test/emulator/harness_cuda.h"

namespace fovea::cuda {
namespace {

using test::Numbers;

View view_of(std::vector<int64_t> shape, std::vector<int64_t> strides) {
  View v;
  v.rank = int32_t(shape.size());
  std::copy(shape.begin(), shape.end(), v.shape), std::copy(strides.begin(), strides.end(), v.strides);
  return v;
}

}  // namespace

FOVEA_TEST(elementwise_divisor) {
  Numbers numbers{1};
  for (int64_t d : {1, 2, 3, 5, 7, 37, 64, 641, 65535, 65536, 65537, 6700417, 1073741823, 1073741825, 2147483647}) {
    const Divisor by(d);
    for (int k = 0; k < 3000; k++) {
      int64_t n = k < 1000 ? k : k < 2000 ? 2147483647 - (k - 1000) : int64_t(numbers.bits() >> 33);
      if (k % 2) n = n / d * d - (n >= d);  // just below a multiple
      FOVEA_CHECK(by.divide(uint32_t(n)) == n / d, "%lld / %lld", (long long)n, (long long)d);
    }
  }
}

// Parts that a view of 2^33 elements is cut into: together they are the view, in order.
FOVEA_TEST(elementwise_parts) {
  const View x = view_of({3, 5, 1 << 20, 600}, {int64_t(5) << 30, int64_t(1) << 30, 700, 1});
  const View y = view_of({3, 5, 1 << 20, 600}, {0, 700000000, 600, 1});
  const Layout<2> layout = layout_of(x, y);
  int64_t next = 0;
  each_narrow_part(layout, {}, [&](const Layout<2>& part, const std::array<int64_t, 2>& first) {
    FOVEA_CHECK(part.size < kNarrow, "%lld elements", (long long)part.size);
    const Places<2> places(part);
    for (int64_t i : {int64_t(0), part.size / 3, part.size - 1}) {
      int64_t at[2], expected[2];
      places.find(i, at), layout.offsets(next + i, expected);
      for (size_t v = 0; v < 2; v++)
        FOVEA_CHECK(first[v] + at[v] == expected[v], "view %zu, element %lld", v, (long long)(next + i));
    }
    next += part.size;
  });
  FOVEA_CHECK(next == layout.size, "%lld of %lld elements", (long long)next, (long long)layout.size);
}

}  // namespace fovea::cuda
