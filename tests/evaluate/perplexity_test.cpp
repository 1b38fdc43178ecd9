// Strided windows against the definition, one token at a time.
#include "core/evaluate/perplexity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/evaluate/token_nll.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kPerplexityRounding = 1e-11;

using Sequence = std::vector<std::int32_t>;

Sequence random_sequence(std::int64_t length, std::uint64_t seed) {
  const at::Tensor ids = test::random_ids(test::tiny_spec("gqa"), 1, length, seed);
  return {ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + length};
}

at::Tensor as_ids(Sequence::const_iterator begin, Sequence::const_iterator end) {
  return at::tensor(std::vector<std::int64_t>(begin, end), at::kLong).unsqueeze(0);
}

/// Token t counts in the first window k that holds it (t < k * stride + context), after the tokens of that window
/// before it; the first token of a window has none and does not count.
std::vector<double> by_definition(const Decoder& decoder, const Sequence& tokens, std::int64_t context,
                                  std::int64_t stride) {
  const at::NoGradGuard no_grad;
  std::vector<double> nll;
  for (std::int64_t t = 1; t < static_cast<std::int64_t>(tokens.size()); ++t) {
    std::int64_t begin = 0;
    while (begin + context <= t) begin += stride;
    if (begin == t) continue;
    const at::Tensor logits = decoder.forward(as_ids(tokens.begin() + begin, tokens.begin() + t))[0][t - begin - 1];
    nll.push_back(-at::log_softmax(logits, 0)[tokens[static_cast<std::size_t>(t)]].item<double>());
  }
  return nll;
}

PerplexityOptions windows(std::int64_t context, std::int64_t stride, std::int64_t batch_tokens = 8192) {
  return {context, stride, batch_tokens};
}

class StridedWindows : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, std::int64_t>> {};

TEST_P(StridedWindows, FollowTheDefinition) {
  const auto [context, stride, batch_tokens] = GetParam();
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const Sequence tokens = random_sequence(38, 1);
  const PerplexityResult result = perplexity(decoder, {tokens}, windows(context, stride, batch_tokens));
  EXPECT_EQ(result.scored_tokens, static_cast<std::int64_t>(result.nll.size()));
  if (stride < context) {
    EXPECT_EQ(result.scored_tokens, 37);
  }
  EXPECT_THAT(result.nll, testing::Pointwise(testing::DoubleNear(kPerplexityRounding),
                                             by_definition(decoder, tokens, context, stride)));
}

// 38 tokens: windows that fit exactly (38), that leave a rest, that overlap by all but one, and one for all.
INSTANTIATE_TEST_SUITE_P(All, StridedWindows,
                         testing::Combine(testing::Values(10, 38, 60), testing::Values(1, 4, 10),
                                          testing::Values(1, 25, 8192)));

TEST(Perplexity, RowsKeepTheirOrderAndTheirOwnWindows) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("mha"));
  const std::vector<Sequence> rows{random_sequence(5, 1),  random_sequence(30, 2), random_sequence(1, 3),
                                   random_sequence(12, 4), random_sequence(30, 5), {}};
  std::vector<double> expected;
  for (const Sequence& row : rows) {
    const std::vector<double> part = by_definition(decoder, row, 12, 8);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  std::int64_t reported = 0;
  const PerplexityResult result =
      perplexity(decoder, rows, windows(12, 8, 40), {}, [&](std::int64_t tokens) { reported += tokens; });
  EXPECT_THAT(result.nll, testing::Pointwise(testing::DoubleNear(kPerplexityRounding), expected));
  EXPECT_EQ(reported, static_cast<std::int64_t>(expected.size()));
}

// Padding would change dynamic frequencies beyond the context length.
TEST(Perplexity, RowsOfAModelWithDynamicFrequenciesAreNotPadded) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.max_positions = 16;
  spec.rope_scaling.type = "dynamic";
  spec.rope_scaling.factor = 2;
  spec.rope_scaling.original_positions = 16;
  const Decoder decoder = test::tiny_decoder(spec);
  const std::vector<Sequence> rows{random_sequence(40, 1), random_sequence(25, 2), random_sequence(40, 3)};
  std::vector<double> expected;
  for (const Sequence& row : rows) {
    const at::Tensor nll = token_nll(decoder, as_ids(row.begin(), row.end())).contiguous();
    expected.insert(expected.end(), nll.const_data_ptr<double>(), nll.const_data_ptr<double>() + nll.numel());
  }
  EXPECT_THAT(perplexity(decoder, rows, windows(64, 64)).nll,
              testing::Pointwise(testing::DoubleNear(kPerplexityRounding), expected));
}

TEST(Perplexity, SummaryIsThatOfTheTokens) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const PerplexityResult result = perplexity(decoder, {random_sequence(38, 1)}, windows(10, 5), 111);
  const double n = 37, sum = std::accumulate(result.nll.begin(), result.nll.end(), 0.0);
  double squares = 0;
  for (const double value : result.nll) squares += std::pow(value - sum / n, 2);
  EXPECT_DOUBLE_EQ(result.mean_nll, sum / n);
  EXPECT_DOUBLE_EQ(result.perplexity, std::exp(sum / n));
  EXPECT_NEAR(result.standard_error, std::sqrt(squares / 36 / 37),
              kPerplexityRounding);  // too few for blocks of tokens
  EXPECT_EQ(result.groups.unit, "token");
  EXPECT_DOUBLE_EQ(result.bits_per_byte.value(), sum / std::log(2.0) / 111);
  EXPECT_FALSE(perplexity(decoder, {random_sequence(38, 1)}, windows(10, 5)).bits_per_byte.has_value());
}

TEST(Perplexity, ErrorIsThatOfDocumentsWhereThereAreMany) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  std::vector<Sequence> documents;
  for (std::uint64_t i = 0; i < 24; ++i) documents.push_back(random_sequence(4 + static_cast<std::int64_t>(i % 5), i));
  const PerplexityResult result = perplexity(decoder, documents, windows(10, 10));
  EXPECT_EQ(result.groups.unit, "document");
  double squares = 0, count = static_cast<double>(result.nll.size());
  auto next = result.nll.begin();
  for (const std::int64_t size : result.scored_per_sequence) {
    squares += std::pow(std::accumulate(next, next + size, 0.0) - result.mean_nll * static_cast<double>(size), 2);
    next += size;
  }
  EXPECT_NEAR(result.standard_error, std::sqrt(squares * 24 / 23) / count, kPerplexityRounding);
}

TEST(Perplexity, RefusesImpossibleWindowsAndEmptyTexts) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const auto message = [&](PerplexityOptions options) {
    return test::message_of<ConfigError>([&] { perplexity(decoder, {{1, 2, 3}}, options); });
  };
  EXPECT_EQ(message(windows(8, 8)), "no error");
  EXPECT_EQ(message(windows(8, 9)), "perplexity.stride: 9 is outside 1..context (8)");
  EXPECT_EQ(message(windows(8, 0)), "perplexity.stride: 0 is outside 1..context (8)");
  EXPECT_EQ(message(windows(1, 1)), "perplexity.context: 1 is less than 2");
  EXPECT_EQ(message(windows(8, 8, 0)), "perplexity.batch_tokens: 0 is less than 1");
  EXPECT_EQ(test::message_of<DataError>([&] {
              perplexity(decoder, {{1}, {}}, {});
            }),
            "perplexity: expected a sequence of at least 2 tokens, found none");
}

TEST(TokenNll, ASingleTokenHasNone) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  EXPECT_EQ(token_nll(decoder, test::random_ids(decoder.spec(), 2, 1)).sizes(), at::IntArrayRef({2, 0}));
}

TEST(TargetNll, ChunksChangeNothing) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const at::Tensor ids = test::random_ids(decoder.spec(), 3, 9);
  const at::Tensor hidden = decoder.hidden_states(ids.narrow(1, 0, 8)), targets = ids.narrow(1, 1, 8);
  const at::Tensor whole = target_nll(decoder, hidden, targets);
  for (const std::int64_t positions : {1, 5, 24}) {
    EXPECT_LT(test::largest_difference(target_nll(decoder, hidden, targets, positions * 50), whole),
              kPerplexityRounding);
  }
  EXPECT_LT(test::largest_difference(token_nll(decoder, ids), whole), kPerplexityRounding);
}

/// Minus log p of token t after tokens begin … t - 1.
double nll_after(const Decoder& decoder, const Sequence& tokens, std::int64_t begin, std::int64_t t) {
  const at::NoGradGuard no_grad;
  const at::Tensor logits = decoder.forward(as_ids(tokens.begin() + begin, tokens.begin() + t))[0][t - begin - 1];
  return -at::log_softmax(logits, 0)[tokens[static_cast<std::size_t>(t)]].item<double>();
}

/// lm-evaluation-harness: get_rolling_token_windows() with a prefix token, then make_disjoint_window(). Of 11 tokens
/// and windows of 4: 4 after the prefix, 4 after the 4th token, and the last 3 after as many as the window still holds.
TEST(WindowRules, RollingWindowsAreThoseOfTheHarness) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  constexpr std::int32_t kPrefix = 1;
  Sequence text = random_sequence(11, 3), whole = {kPrefix};
  for (std::int32_t& token : text) token = std::max(token, 2);
  whole.insert(whole.end(), text.begin(), text.end());
  std::vector<double> expected;
  for (std::int64_t t = 1; t <= 11; ++t) expected.push_back(nll_after(decoder, whole, t <= 4 ? 0 : t <= 8 ? 4 : 7, t));
  for (const Sequence& given : {text, whole}) {
    const PerplexityResult result = perplexity_by(WindowRule::kRolling, kPrefix, decoder, {given}, {4, {}, 8192}, 30);
    EXPECT_THAT(result.nll, testing::Pointwise(testing::DoubleNear(kPerplexityRounding), expected));
    const double sum = std::accumulate(expected.begin(), expected.end(), 0.0);
    EXPECT_NEAR(perplexity_per(result, 6), std::exp(sum / 6), kPerplexityRounding * std::exp(sum / 6));
    EXPECT_NEAR(result.bits_per_byte.value(), sum / 30 / std::log(2.0), kPerplexityRounding);
  }
}

TEST(WindowRules, BosBeginsEachWindow) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  constexpr std::int32_t kBos = 1;
  Sequence text = random_sequence(7, 3);
  for (std::int32_t& token : text) token = std::max(token, 2);
  std::vector<double> expected;
  for (std::size_t begin = 0; begin < 7; begin += 3) {
    Sequence window = {kBos};
    for (std::size_t i = begin; i < std::min<std::size_t>(7, begin + 3); ++i) window.push_back(text[i]);
    for (std::int64_t t = 1; t < std::ssize(window); ++t) expected.push_back(nll_after(decoder, window, 0, t));
  }
  const PerplexityResult result = perplexity_by(WindowRule::kBosPerWindow, kBos, decoder, {text}, {4, {}, 8192});
  EXPECT_THAT(result.nll, testing::Pointwise(testing::DoubleNear(kPerplexityRounding), expected));
  EXPECT_EQ(result.scorable_tokens, 7);
  EXPECT_EQ(test::message_of<ConfigError>([&] {
              perplexity_by(WindowRule::kBosPerWindow, kBos, decoder, {text}, {4, 2, 8192});
            }),
            "stride = 2: windows other than strided ones follow each other; leave it out");
}

}  // namespace
}  // namespace mla
