// The loss's gradient through what only some families have: soft caps, norms after the parts, norms by 1 + weight.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/compress/calibration/loss_gradients.h"
#include "core/train/loss.h"
#include "core/train/trainable.h"
#include "tests/support/family_models.h"

namespace mla {
namespace {

constexpr double kFamilyGradientTolerance = 1e-10;

class FamilyLoss : public testing::TestWithParam<std::string> {};

/// The definition: all logits at once, and autograd.
at::Tensor whole_loss(const Decoder& decoder, const Batch& batch) {
  return at::cross_entropy_loss(decoder.forward(batch.ids).flatten(0, 1), batch.targets.flatten(), {},
                                at::Reduction::Sum, kIgnoredTarget);
}

TEST_P(FamilyLoss, GradientIsThatOfTheDefinition) {
  Decoder decoder = test::FamilyModel(GetParam()).load().decoder;
  RowBatches source({{3, 14, 15, 9, 26, 5, 35, 8, 20, 11}, {9, 7, 9, 3, 2}});
  const Batch batch = source.next(2);
  const auto gradients = [&](const auto& backward) {
    TrainableParameters parameters(decoder, "all", "test");
    backward();
    std::map<std::string, at::Tensor> all;
    decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) { all[name] = tensor.grad().clone(); });
    return all;
  };
  double sum = 0;
  const auto found = gradients([&] { sum = accumulate_gradients(decoder, batch, 1, {}, nullptr, 100).item<double>(); });
  double wanted_sum = 0;
  const auto wanted = gradients([&] {
    const at::AutoGradMode record(true);
    const at::Tensor loss = whole_loss(decoder, batch);
    wanted_sum = loss.item<double>();
    loss.backward();
  });
  EXPECT_NEAR(sum, wanted_sum, kFamilyGradientTolerance);
  for (const auto& [name, gradient] : wanted) {
    EXPECT_LT((found.at(name) - gradient).abs().max().item<double>(), kFamilyGradientTolerance) << name;
    EXPECT_GT(gradient.abs().max().item<double>(), 1e-6) << name;
  }
}

TEST_P(FamilyLoss, GradientsOfStatesAreThoseOfTheDefinition) {
  const Decoder decoder = test::FamilyModel(GetParam()).load().decoder;
  const at::Tensor ids = at::tensor({3, 14, 15, 9, 26, 5}, at::kLong).unsqueeze(0);
  const at::AutoGradMode record(true);
  const at::Tensor states = decoder.hidden_states(ids).detach();
  const at::Tensor found = states.clone().requires_grad_(true), wanted = states.clone().requires_grad_(true);
  backward_from_losses(decoder, ids, found * 1);
  at::cross_entropy_loss(decoder.logits(wanted)[0].narrow(0, 0, 5), ids[0].narrow(0, 1, 5), {}, at::Reduction::Sum)
      .backward();
  EXPECT_LT((found.grad() - wanted.grad()).abs().max().item<double>(), kFamilyGradientTolerance);
}

INSTANTIATE_TEST_SUITE_P(All, FamilyLoss, testing::Values("gemma2", "gemma3", "olmo2", "smollm3"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace mla
