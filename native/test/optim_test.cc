// Optimiser steps over several tensors against float64 models of the formulas in ops/optim/op.cc, over several steps.
#include "ops/optim/workspace.h"
#include "test/optim_adafactor_model.h"
#include "test/optim_compact_model.h"

FOVEA_TEST_FAMILY(optim)

namespace fovea::test {
namespace {

constexpr int64_t kLargest = 70001;

// gradNorm and adafactor_ keep sums of pieces in a workspace; nothing else has one.
struct RunOptim {
  const Table& table;
  int threads = 3;
  template <class Attrs>
  void operator()(const char* name, const Attrs& attrs, const std::vector<Tensor*>& in,
                  const std::vector<Tensor*>& out) const {
    const bool pieces = std::strcmp(name, "gradNorm") == 0 && !in.empty();
    const size_t of_parts = std::strcmp(name, "adafactor_") == 0 ? workspace_of(in) : 0;
    run(table, name, attrs, in, out, threads, pieces ? size_t(kLargest / kNormPiece + 2) * 8 : of_parts);
  }
  static size_t workspace_of(const std::vector<Tensor*>& in) {
    std::vector<View> views;
    for (const Tensor* t : in) views.push_back(t ? t->view : View{});
    return adafactor_workspace({views.data(), int32_t(views.size())}, {}, nullptr, 3);
  }
};

}  // namespace

FOVEA_TEST(optim_adamw) {
  for (const Table& table : tables_of_optim()) check_adamw(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_sgd) {
  for (const Table& table : tables_of_optim()) check_sgd(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_amsgrad) {
  for (const Table& table : tables_of_optim()) check_amsgrad(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_radam) {
  for (const Table& table : tables_of_optim()) check_radam(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_nadam) {
  for (const Table& table : tables_of_optim()) check_nadam(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_adagrad_and_lion) {
  for (const Table& table : tables_of_optim()) check_adagrad_and_lion(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_rmsprop) {
  for (const Table& table : tables_of_optim()) check_rmsprop(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_sophia) {
  for (const Table& table : tables_of_optim()) check_sophia(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_adafactor) {
  for (const Table& table : tables_of_optim()) check_adafactor_op(RunOptim{table});
}
FOVEA_TEST(optim_adafactor_of_any_threads) {
  for (const Table& table : tables_of_optim()) {
    AdafactorModel one(Dtype::f32, {150, 230}, 1), three(Dtype::f32, {150, 230}, 1);
    for (AdafactorModel* model : {&one, &three}) {
      std::vector<Tensor*> in;
      model->g.fill_random(2), model->add_to(in);
      RunOptim{table, model == &one ? 1 : 3}("adafactor_", AdafactorAttrs{}, in, {});
    }
    FOVEA_CHECK(one.p.same_bits(three.p) && one.row.same_bits(three.row) && one.col.same_bits(three.col), "%s",
                table.isa);
  }
}
FOVEA_TEST(optim_adafactor_of_many_tensors) {
  for (const Table& table : tables_of_optim()) check_adafactor_many(RunOptim{table});
}
FOVEA_TEST(optim_compact_codes) { check_codes(); }
FOVEA_TEST(optim_compact_adamw) {
  for (const Table& table : tables_of_optim()) check_compact_adamw(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_compact_lion) {
  for (const Table& table : tables_of_optim()) check_compact_lion(RunOn{table}, kLargest);
}
FOVEA_TEST(optim_gradient_norm_and_clip) {
  for (const Table& table : tables_of_optim()) check_gradient_norm_and_clip(RunOptim{table}, kLargest);
}

}  // namespace fovea::test
