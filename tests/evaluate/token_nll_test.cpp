// Losses of models whose arithmetic is narrow.
#include "core/evaluate/token_nll.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/evaluate/end_tokens.h"
#include "core/ops/softmax_loss.h"
#include "core/text/tokenizer.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

/// Of float32 sums.
constexpr double kNarrowRounding = 1e-5;

TEST(TokenNll, IsFloat32AtLeast) {
  for (const auto dtype : {at::kBFloat16, at::kHalf, at::kFloat, at::kDouble}) {
    const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), dtype);
    const at::Tensor ids = test::random_ids(decoder.spec(), 2, 20);
    const at::Tensor nll = token_nll(decoder, ids);
    EXPECT_EQ(nll.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat) << dtype;
    EXPECT_EQ(token_nll(decoder, ids.narrow(1, 0, 1)).scalar_type(), nll.scalar_type());
    const at::Tensor hidden = decoder.hidden_states(ids).narrow(1, 0, 19), targets = ids.narrow(1, 1, 19);
    const TargetScores scores = target_scores(decoder, hidden, targets);
    EXPECT_TRUE(at::equal(scores.nll, nll));
    // The definition, in float64, of the logits that the model gave.
    const at::Tensor logs = decoder.logits(hidden).to(at::kDouble).log_softmax(-1);
    const at::Tensor wanted = -logs.gather(2, targets.unsqueeze(2)).squeeze(2);
    EXPECT_LT(test::largest_difference(nll, wanted), kNarrowRounding) << dtype;
  }
}

TEST(TokenNll, LossAndGradientOfNarrowLogitsAreThoseOfWideOnes) {
  const at::Tensor logits = at::randn({5, 300}).mul(4).to(at::kBFloat16),
                   teacher = at::randn({5, 300}).to(at::kBFloat16);
  const at::Tensor targets = at::arange(5, at::kLong).mul(59);
  for (const SoftmaxLoss& loss : {SoftmaxLoss{1, 0, 1}, SoftmaxLoss{0.5, 2, 3}}) {
    at::Tensor narrow = logits.clone(), wide = logits.to(at::kDouble);
    const double sum = softmax_loss_gradient(narrow, targets, teacher, loss, 0.25).item<double>();
    const double wanted = softmax_loss_gradient(wide, targets, teacher.to(at::kDouble), loss, 0.25).item<double>();
    EXPECT_NEAR(sum / wanted, 1, kNarrowRounding);
    EXPECT_EQ(narrow.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(at::allclose(narrow.to(at::kDouble), wide, 1.0 / 256, 1e-6));
  }
}

TEST(EndTokens, TheModelsGoBeforeTheTokenizers) {
  const test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::tiny_sentencepiece_like().dump());
  const auto tokenizer = load_tokenizer(folder.path());
  ModelSpec spec;
  ASSERT_TRUE(tokenizer->eos());
  EXPECT_EQ(end_tokens(spec, *tokenizer), std::vector<std::int64_t>{*tokenizer->eos()});
  spec.ends = {7, 9};
  EXPECT_EQ(end_tokens(spec, *tokenizer), (std::vector<std::int64_t>{7, 9}));
}

}  // namespace
}  // namespace mla
