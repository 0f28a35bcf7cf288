// Optimiser steps over several tensors on the emulated device against float64 models of the formulas in
// ops/optim/op.cc, over several steps; more tensors than one launch takes, and tensors that begin anywhere.
#include "test/emulator/harness_cuda.h"
#include "test/optim_adafactor_model.h"
#include "test/optim_compact_model.h"

namespace fovea::test {
namespace {

constexpr int64_t kLargest = 20001;

}  // namespace

FOVEA_TEST(optim_adamw) { check_adamw(RunCuda{}, kLargest); }
FOVEA_TEST(optim_sgd) { check_sgd(RunCuda{}, kLargest); }
FOVEA_TEST(optim_amsgrad) { check_amsgrad(RunCuda{}, kLargest); }
FOVEA_TEST(optim_radam) { check_radam(RunCuda{}, kLargest); }
FOVEA_TEST(optim_nadam) { check_nadam(RunCuda{}, kLargest); }
FOVEA_TEST(optim_adagrad_and_lion) { check_adagrad_and_lion(RunCuda{}, kLargest); }
FOVEA_TEST(optim_rmsprop) { check_rmsprop(RunCuda{}, kLargest); }
FOVEA_TEST(optim_sophia) { check_sophia(RunCuda{}, kLargest); }
FOVEA_TEST(optim_adafactor) { check_adafactor_op(RunCuda{}); }
FOVEA_TEST(optim_adafactor_of_many_tensors) { check_adafactor_many(RunCuda{}); }
FOVEA_TEST(optim_compact_adamw) { check_compact_adamw(RunCuda{}, kLargest); }
FOVEA_TEST(optim_compact_lion) { check_compact_lion(RunCuda{}, kLargest); }
FOVEA_TEST(optim_gradient_norm_and_clip) { check_gradient_norm_and_clip(RunCuda{}, kLargest); }

FOVEA_TEST(optim_many_tensors_and_dtypes) {
  std::vector<Tensor> tensors;
  std::vector<Tensor*> in;
  for (int i = 0; i < 120; i++)
    tensors.push_back(Tensor::random(i % 50 == 7 ? Dtype::f16 : Dtype::f32, {i % 9 * 5}, uint64_t(i)));
  double squares = 0;
  std::vector<std::vector<double>> before;
  Tensor norm(Dtype::f32, {});
  std::vector<Tensor*> pairs;
  for (Tensor& t : tensors) {
    in.push_back(&t), pairs.push_back(&t), pairs.push_back(&norm), before.push_back(t.values());
    for (double x : t.values()) squares += x * x;
  }
  run_cuda("gradNorm", NoAttrs{}, in, {&norm});
  FOVEA_CHECK_CLOSE(norm.at(0), std::sqrt(squares), 1e-6 * std::sqrt(squares));
  run_cuda("clip_", ClipAttrs{1}, pairs, {});
  for (size_t t = 0; t < tensors.size(); t++)
    for (int64_t i = 0; i < tensors[t].size(); i++) {
      const double expected = before[t][size_t(i)] / (norm.at(0) + 1e-6);
      FOVEA_CHECK_CLOSE(tensors[t].at(i), expected, 1e-6 + ulp(tensors[t].dtype(), expected));
    }
}

FOVEA_TEST(optim_tensors_that_begin_anywhere) {
  Tensor p(Dtype::f16, {100}), g(Dtype::f16, {100});
  for (Tensor* t : {&p, &g}) t->view.data += 2, t->view.shape[0] = 98, t->fill_random(t == &p);
  const std::vector<double> before = p.values();
  run_cuda("sgd_", SgdAttrs{.lr = 0.5}, {&p, &g, nullptr}, {});
  for (int64_t i = 0; i < 98; i++) {
    const double expected = before[size_t(i)] - 0.5 * g.at(i);
    FOVEA_CHECK_CLOSE(p.at(i), expected, ulp(Dtype::f16, expected));
  }
}

}  // namespace fovea::test
