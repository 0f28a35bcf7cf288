// Attention over pages against the definition in float64, and against attention over the same keys and values one after
// the other, to the bit.
#include "ops/attention/workspace.h"
#include "test/attention_model.h"

FOVEA_TEST_FAMILY_WITH_AMX(attention)

namespace fovea::test {
namespace {

struct PagedCase {
  int64_t h, g, n, d, e, size;  // the latter: positions of a page
  std::vector<int64_t> lengths;
  Dtype dtype = Dtype::f32;
  PagedAttentionAttrs attrs = {.scale = 0.3};
  bool heads_inside = false;  // pages lie as [size, g, d]
  Dtype integers = Dtype::i64;

  int64_t b() const { return int64_t(lengths.size()); }
  int64_t used(int64_t bi) const { return (lengths[size_t(bi)] + size - 1) / size; }
  AttentionCase sequence(int64_t bi) const {
    const AttentionAttrs causal = {.scale = attrs.scale, .causal = 2, .softcap = attrs.softcap};
    return {1, h, g, n, lengths[size_t(bi)], d, e, causal, dtype};
  }
};

// Each sequence with inputs of its own, and the same in pages in an order without order. What no sequence has is NaN,
// and -1 in the table, as tensors of tests start.
struct PagedInputs {
  std::vector<AttentionInputs> sequences;
  Tensor q, k, v, table, lengths;

  explicit PagedInputs(const PagedCase& c) {
    int64_t pages = 1, reach = 1;
    for (int64_t bi = 0; bi < c.b(); bi++) {
      sequences.emplace_back(c.sequence(bi));
      AttentionInputs& own = sequences.back();
      own.q.fill_random(uint64_t(10 + 3 * bi)), own.k.fill_random(uint64_t(11 + 3 * bi)),
          own.v.fill_random(uint64_t(12 + 3 * bi));
      pages += c.used(bi), reach = std::max(reach, c.used(bi) + 1);
    }
    const std::vector<int> order = c.heads_inside ? std::vector<int>{0, 2, 1, 3} : std::vector<int>{0, 1, 2, 3};
    q = Tensor(c.dtype, {c.b(), c.h, c.n, c.d});
    k = Tensor::strided(c.dtype, {pages, c.g, c.size, c.d}, order);
    v = Tensor::strided(c.dtype, {pages, c.g, c.size, c.e}, order);
    table = Tensor(c.integers, {c.b(), reach}), lengths = Tensor(c.integers, {c.b()});
    int64_t page = 0;
    for (int64_t bi = 0; bi < c.b(); bi++) {
      const AttentionInputs& own = sequences[size_t(bi)];
      lengths.set(bi, double(c.lengths[size_t(bi)]));
      for (int64_t i = 0; i < own.q.size(); i++) q.set(bi * own.q.size() + i, own.q.at(i));
      for (int64_t t = 0; t < c.used(bi); t++) {
        // every other one from the back
        const int64_t place = page % 2 ? pages - 1 - page / 2 : page / 2;
        table.set(bi * reach + t, double(place)), page++;
        copy_page(c, c.d, own.k, bi, t, k, place), copy_page(c, c.e, own.v, bi, t, v, place);
      }
    }
  }
  std::vector<Tensor*> all() { return {&q, &k, &v, &table, &lengths}; }

 private:
  static void copy_page(const PagedCase& c, int64_t width, const Tensor& own, int64_t bi, int64_t t, Tensor& pool,
                        int64_t place) {
    const int64_t m = c.lengths[size_t(bi)];
    for (int64_t gi = 0; gi < c.g; gi++)
      for (int64_t j = t * c.size; j < std::min(m, (t + 1) * c.size); j++)
        for (int64_t l = 0; l < width; l++)
          pool.set(((place * c.g + gi) * c.size + j % c.size) * width + l, own.at((gi * m + j) * width + l));
  }
};
struct PagedOutputs {
  Tensor o, lse;
  explicit PagedOutputs(const PagedCase& c)
      : o(c.dtype, {c.b(), c.h, c.n, c.e}), lse(accumulator_of(c.dtype), {c.b(), c.h, c.n}) {}
};

void attend(const Table& table, const PagedCase& c, PagedInputs& in, PagedOutputs& out, int threads = 2) {
  std::vector<View> views;
  for (const Tensor* t : in.all()) views.push_back(t->view);
  const size_t workspace = paged_attention_workspace({views.data(), int32_t(views.size())}, {}, &c.attrs, threads);
  run(table, "pagedAttention", c.attrs, in.all(), {&out.o, &out.lse}, threads, workspace);
}

void check(const PagedCase& c) {
  PagedInputs in(c);
  AttentionModel all(c.sequence(0), in.sequences[0]);
  for (int64_t bi = 1; bi < c.b(); bi++) {
    const AttentionModel model(c.sequence(bi), in.sequences[size_t(bi)]);
    all.o.insert(all.o.end(), model.o.begin(), model.o.end());
    all.lse.insert(all.lse.end(), model.lse.begin(), model.lse.end());
  }
  const double inner = epsilon(accumulator_of(c.dtype)), half = bytes_of(c.dtype) == 2 ? 3e-6 : 0;
  for (const Table& table : tables_of_attention()) {
    PagedOutputs out(c);
    attend(table, c, in, out);
    compare_attention("o in pages", c.sequence(0), table.isa, out.o, all.o, epsilon(c.dtype) + 20 * inner);
    compare_attention("lse in pages", c.sequence(0), table.isa, out.lse, all.lse, 20 * inner + half);
  }
}

// Of every sequence the bits of attention, as far as that takes few queries in the same way.
void check_bits(const PagedCase& c) {
  PagedInputs in(c);
  for (const Table& table : tables_of_attention()) {
    PagedOutputs out(c);
    attend(table, c, in, out);
    for (int64_t bi = 0; bi < c.b(); bi++) {
      const AttentionCase one = c.sequence(bi);
      AttentionOutputs expected(one);
      std::vector<Tensor*> inputs = in.sequences[size_t(bi)].forward(one);
      std::vector<View> views;
      for (const Tensor* t : inputs) views.push_back(t ? t->view : View());
      run(table, "attention", one.attrs, inputs, {&expected.o, &expected.lse}, 2,
          attention_workspace({views.data(), int32_t(views.size())}, {}, &one.attrs, 2));
      bool same = true;
      for (int64_t i = 0; i < expected.o.size(); i++)
        same &= std::memcmp(expected.o.bytes(i), out.o.bytes(bi * expected.o.size() + i), bytes_of(c.dtype)) == 0;
      for (int64_t i = 0; i < expected.lse.size(); i++)
        same &= expected.lse.at(i) == out.lse.at(bi * expected.lse.size() + i);
      FOVEA_CHECK(same, "%s of sequence %lld in pages of %lld on %s", name_of(c.dtype), static_cast<long long>(bi),
                  static_cast<long long>(c.size), table.isa);
    }
  }
}

}  // namespace

FOVEA_TEST(paged_attention_sizes) {
  for (int64_t size : {1, 3, 16, 17, 64})
    for (bool inside : {false, true}) {
      check({4, 2, 1, 24, 16, size, {1, 70, 530, 64}, Dtype::f32, {.scale = 0.3}, inside});
      check({2, 2, 3, 16, 33, size, {3, 40, 129}, Dtype::bf16, {.scale = 0.3}, inside});
    }
  for (int64_t d : {1, 7, 16, 31, 64, 127}) check({2, 1, 2, d, d, 5, {41, 8}});
  check({6, 2, 1, 8, 257, 16, {1100, 20}});
  check({1, 1, 2, 0, 3, 4, {9, 2}});
  check({1, 1, 2, 3, 0, 4, {9, 2}});
}
FOVEA_TEST(paged_attention_queries) {
  for (int64_t n : {1, 2, 4, 5, 31, 32, 33, 70})
    for (Dtype t : {Dtype::f32, Dtype::f16}) {
      check({2, 2, n, 16, 16, 16, {n, n + 50, 2 * n + 130}, t});
      check({12, 2, n, 16, 8, 3, {n + 1, n}, t, {.scale = 0.4, .softcap = 2}});
    }
  check({40, 1, 3, 16, 8, 16, {90, 3}});  // one query has more rows than a chunk
}
FOVEA_TEST(paged_attention_sees_nothing) {
  for (Dtype t : kFloats) check({2, 1, 3, 8, 8, 4, {0, 1, 2, 3, 700}, t});
  check({2, 1, 40, 8, 8, 4, {0, 1, 5, 33, 39}});  // whole blocks of queries are in front of the first key
}
FOVEA_TEST(paged_attention_integers) {
  for (Dtype t : kInts) check({2, 1, 1, 8, 8, 4, {20, 33}, Dtype::f32, {.scale = 0.3}, false, t});
}
FOVEA_TEST(paged_attention_has_the_bits_of_attention) {
  for (Dtype t : kFloats)
    for (int64_t size : {1, 3, 16, 17, 64})
      for (int64_t n : {1, 4}) {
        check_bits({8, 2, n, 64, 48, size, {5, 16, 600, 131}, t});
        check_bits({3, 3, n, 33, 64, size, {1100, 4}, t, {.scale = 0.3, .softcap = 3}});
      }
}
// More chunks than there is room for results of at a time, with other sequences before and behind each.
FOVEA_TEST(paged_attention_in_rounds) {
  PagedCase c{128, 1, 1, 8, 128, 16, {}};
  for (int64_t bi = 0; bi < 70; bi++) c.lengths.push_back(bi % 7 == 3 ? 0 : 2 + (bi * 389) % 1500);
  PagedInputs in(c);
  std::vector<View> views;
  for (const Tensor* t : in.all()) views.push_back(t->view);
  int64_t chunks = 0;
  for (int64_t length : c.lengths) chunks += (length + kDecodeKeys - 1) / kDecodeKeys;
  const int64_t room = paged_plan({views.data(), int32_t(views.size())}).chunks();
  FOVEA_CHECK(chunks > 2 * room, "%lld chunks, and room for %lld", static_cast<long long>(chunks),
              static_cast<long long>(room));
  check_bits(c);
}
FOVEA_TEST(paged_attention_does_not_depend_on_threads) {
  for (Dtype t : {Dtype::f32, Dtype::bf16}) {
    const PagedCase c{8, 2, 6, 32, 32, 16, {1300, 40, 2000, 513}, t};
    PagedInputs in(c);
    for (const Table& table : tables_of_attention()) {
      PagedOutputs one(c);
      attend(table, c, in, one, 1);
      for (int threads : {2, 3}) {
        PagedOutputs more(c);
        attend(table, c, in, more, threads);
        FOVEA_CHECK(one.o.same_bits(more.o) && one.lse.same_bits(more.lse), "%d threads", threads);
      }
    }
  }
}
FOVEA_TEST(paged_attention_of_nothing) {
  for (const Table& table : tables_of_attention())
    for (PagedCase c :
         {PagedCase{2, 1, 1, 4, 4, 4, {}}, PagedCase{2, 1, 0, 4, 4, 4, {5}}, PagedCase{0, 0, 1, 4, 4, 4, {5}}}) {
      PagedInputs in(c);
      PagedOutputs out(c);
      attend(table, c, in, out);
    }
}
// A page that is not there and a length beyond the table, but not what no length reaches.
FOVEA_TEST(paged_attention_refuses) {
  const PagedCase c{2, 1, 1, 4, 4, 4, {5, 12}};
  auto code = [&](int64_t at, double entry, double length, double softcap) {
    PagedInputs in(c);
    in.table.set(at, entry), in.lengths.set(1, length);
    PagedCase changed = c;
    changed.attrs.softcap = softcap;
    std::string found;
    for (const Table& table : tables_of_attention()) {
      PagedOutputs out(c);
      found = code_of([&] { attend(table, changed, in, out); });
    }
    return found;
  };
  FOVEA_CHECK(code(2, 77, 12, 0) == "none", "an entry that is not read");  // sequence 0 has two pages
  FOVEA_CHECK(code(1, 6, 12, 0) == "FOVEA_INDEX", "a page behind the last");
  FOVEA_CHECK(code(6, -1, 12, 0) == "FOVEA_INDEX", "a negative page");
  FOVEA_CHECK(code(2, 0, 17, 0) == "FOVEA_INDEX", "a length beyond the table");
  FOVEA_CHECK(code(2, 0, -1, 0) == "FOVEA_INDEX", "a negative length");
  FOVEA_CHECK(code(2, 0, 12, -1) == "FOVEA_ARGUMENT", "a negative soft cap");
}

}  // namespace fovea::test
