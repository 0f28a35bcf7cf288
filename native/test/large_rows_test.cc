// Outputs of some megabytes are written past the caches: every kernel that does so must give the bits that it gives for
// a few rows, which are written through them. And what rows are rounded with must agree with core/half.h.
#include "ops/elementwise/attrs.h"
#include "ops/gated/attrs.h"
#include "ops/norm/attrs.h"
#include "ops/rope/attrs.h"
#include "test/harness.h"

FOVEA_TEST_FAMILY(elementwise)
FOVEA_TEST_FAMILY(gated)
FOVEA_TEST_FAMILY(norm)
FOVEA_TEST_FAMILY(rope)
FOVEA_TEST_FAMILY(softmax)

namespace fovea::test {
namespace {

constexpr int64_t kWidth = 1088, kMany = 2048, kFew = 3;  // 4.25 MB of 16-bit floats
constexpr Dtype kTypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};

// Rows on a boundary of cache lines, as the allocator gives them.
Tensor aligned_rows(Dtype dtype, int64_t rows) {
  Tensor t(dtype, {rows + 1, kWidth});
  t.view.shape[0] = rows;
  t.view.data += 64 - reinterpret_cast<uintptr_t>(t.view.data) % 64;
  return t;
}
// The first `rows` rows of t.
Tensor first_rows(const Tensor& t, int64_t rows) {
  Tensor few = aligned_rows(t.dtype(), rows);
  std::memcpy(few.view.data, t.view.data, size_t(few.size()) * bytes_of(t.dtype()));
  return few;
}

// body(rows, inputs) runs the kernel on inputs of that many rows and returns its output.
template <class Body>
void check_first_rows(const char* name, Dtype dtype, Body body) {
  Tensor many[3], few[3];
  for (int i = 0; i < 3; i++) {
    many[i] = aligned_rows(dtype, kMany);
    many[i].fill_random(uint64_t(11 + i));
    few[i] = first_rows(many[i], kFew);
  }
  const Tensor expected = body(kFew, few), result = first_rows(body(kMany, many), kFew);
  FOVEA_CHECK(result.same_bits(expected), "%s %s", name, name_of(dtype));
}

}  // namespace

FOVEA_TEST(large_rows_of_norms) {
  for (const Table& table : tables_of_norm())
    for (Dtype dtype : kTypes) {
      Tensor weight = Tensor::random(dtype, {kWidth}, 3), bias = Tensor::random(dtype, {kWidth}, 4);
      check_first_rows("layerNorm", dtype, [&](int64_t rows, Tensor* in) {
        Tensor y = aligned_rows(dtype, rows), mean(Dtype::f32, {rows}), rstd(Dtype::f32, {rows});
        run(table, "layerNorm", LayerNormAttrs{}, {&in[0], &weight, &bias}, {&y, &mean, &rstd});
        return y;
      });
      for (int output : {0, 1})
        check_first_rows("addRmsNorm", dtype, [&](int64_t rows, Tensor* in) {
          Tensor y = aligned_rows(dtype, rows), sum = aligned_rows(dtype, rows), rstd(Dtype::f32, {rows});
          run(table, "addRmsNorm", LayerNormAttrs{}, {&in[0], &in[1], &weight}, {&sum, &y, &rstd});
          return std::move(output ? y : sum);
        });
    }
}

FOVEA_TEST(large_rows_of_softmax) {
  for (const Table& table : tables_of_softmax())
    for (Dtype dtype : kTypes)
      for (const char* name : {"softmax", "logSoftmax", "softmaxBackward", "logSoftmaxBackward"})
        check_first_rows(name, dtype, [&](int64_t rows, Tensor* in) {
          Tensor y = aligned_rows(dtype, rows);
          if (std::strstr(name, "Backward")) run(table, name, NoAttrs{}, {&in[0], &in[1]}, {&y});
          else run(table, name, NoAttrs{}, {&in[0]}, {&y});
          return y;
        });
}

FOVEA_TEST(large_rows_of_gates_and_angles) {
  for (Dtype dtype : kTypes) {
    for (const Table& table : tables_of_gated())
      check_first_rows("swiglu", dtype, [&](int64_t rows, Tensor* in) {
        Tensor y = aligned_rows(dtype, rows);
        run(table, "swiglu", SwigluAttrs{kWidth}, {&in[0], &in[1]}, {&y});
        return y;
      });
    for (const Table& table : tables_of_rope())
      for (bool interleaved : {false, true})
        check_first_rows("rope", dtype, [&](int64_t rows, Tensor* in) {
          Tensor angles = Tensor::random(Dtype::f32, {1, rows, kWidth / 2}, 5), y = aligned_rows(dtype, rows);
          for (Tensor* t : {&in[0], &y}) {
            t->view.rank = 4;
            const int64_t shape[] = {1, 1, rows, kWidth}, strides[] = {0, 0, kWidth, 1};
            std::copy(shape, shape + 4, t->view.shape), std::copy(strides, strides + 4, t->view.strides);
          }
          run(table, "rope", RopeAttrs{interleaved, false}, {&in[0], &angles, &angles}, {&y});
          return y;
        });
  }
}

FOVEA_TEST(large_rows_of_elements) {
  for (const Table& table : tables_of_elementwise())
    for (Dtype dtype : kTypes)
      for (const char* name : {"gelu", "silu", "tanh", "add"})
        check_first_rows(name, dtype, [&](int64_t rows, Tensor* in) {
          Tensor y = aligned_rows(dtype, rows);
          if (name[0] == 'a') run(table, name, ScalarAttrs{}, {&in[0], &in[1]}, {&y});
          else run(table, name, NoAttrs{}, {&in[0]}, {&y});
          return y;
        });
}

// Among random bits are NaN with any payload and denormals.
FOVEA_TEST(rows_are_rounded_as_single_values) {
  constexpr int64_t n = 1 << 16;
  Tensor x(Dtype::f32, {n});
  Numbers numbers{1};
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits = uint32_t(numbers.bits());
    if (i % 256 == 0) bits &= 0x807fffffu;
    if (i % 256 == 1) bits |= 0x7f800000u;
    x.view.as<float>()[i] = float_of(bits);
  }
  for (const Table& table : tables_of_elementwise()) {
    Tensor half(Dtype::f16, {n}), brain(Dtype::bf16, {n});
    run(table, "cast", CastAttrs{Dtype::f16}, {&x}, {&half});
    run(table, "cast", CastAttrs{Dtype::bf16}, {&x}, {&brain});
    int wrong = 0;
    for (int64_t i = 0; i < n; i++) {
      const float value = x.view.as<float>()[i];
      wrong += half.view.as<Half>()[i].bits != to_half(value).bits;
      wrong += brain.view.as<Bfloat16>()[i].bits != to_bfloat16(value).bits;
    }
    FOVEA_CHECK(wrong == 0, "%s rounds %d of %lld values otherwise", table.isa, wrong, static_cast<long long>(n));
  }
}

}  // namespace fovea::test
