// Continuations through the cache against recomputation, and the odds of sampled tokens.
#include "core/evaluate/generate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/kv_cache/stream.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kStandardErrors = 5;  // of an observed frequency: one failure in a million for each of 50 tokens

at::Tensor recomputed_greedy(const Decoder& decoder, at::Tensor ids, std::int64_t count) {
  const at::NoGradGuard no_grad;
  const std::int64_t first = ids.size(1);
  for (std::int64_t i = 0; i < count; ++i) {
    ids = at::cat({ids, decoder.forward(ids).select(1, ids.size(1) - 1).argmax(-1, true)}, 1);
  }
  return ids.narrow(1, first, count);
}

class Greedy : public testing::TestWithParam<std::string> {};

TEST_P(Greedy, CachedEqualsRecomputed) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec(GetParam()));
  const at::Tensor prompt = test::random_ids(decoder.spec(), 3, 6);
  EXPECT_TRUE(greedy_continue(decoder, prompt, 20).equal(recomputed_greedy(decoder, prompt, 20)));
}

INSTANTIATE_TEST_SUITE_P(Kinds, Greedy, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& test) { return test.param; });

TEST(Generate, RecomputesWhenDynamicFrequenciesOutgrowTheContext) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.max_positions = 8;
  spec.rope_scaling.type = "dynamic";
  spec.rope_scaling.factor = 4;
  spec.rope_scaling.original_positions = 8;
  const Decoder decoder = test::tiny_decoder(spec);
  const at::Tensor prompt = test::random_ids(spec, 4, 6);
  const at::Tensor expected = recomputed_greedy(decoder, prompt, 40);
  EXPECT_TRUE(greedy_continue(decoder, prompt, 40).equal(expected));
  // The cache alone would give something else, or this test could not fail.
  DecoderCache cache = decoder.make_cache(4);
  at::Tensor fed = prompt;
  std::vector<at::Tensor> cached;
  for (int i = 0; i < 40; ++i) cached.push_back(fed = decoder.forward_cached(fed, cache).argmax(-1, true));
  EXPECT_FALSE(at::cat(cached, 1).equal(expected));
}

TEST(Generate, SampledTokensHaveTheirProbabilities) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const std::int64_t draws = 4000;
  const at::Tensor prompt = test::random_ids(decoder.spec(), 1, 5);
  GenerateOptions options;
  options.count = 1;
  options.temperature = 1.5;
  const at::Tensor drawn = generate(decoder, prompt.expand({draws, 5}).contiguous(), options);
  const at::Tensor frequency = at::bincount(drawn.flatten(), {}, 50).to(at::kDouble) / draws;
  const at::Tensor probability = at::softmax(decoder.forward(prompt)[0][4] / options.temperature, 0);
  for (int i = 0; i < 50; ++i) {
    const double p = probability[i].item<double>();
    EXPECT_NEAR(frequency[i].item<double>(), p, kStandardErrors * std::sqrt(p * (1 - p) / draws) + 1.0 / draws) << i;
  }
}

TEST(Generate, TopKAndTopPCutTheTail) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const at::Tensor prompt = test::random_ids(decoder.spec(), 1, 5);
  const at::Tensor many = prompt.expand({500, 5}).contiguous();
  const at::Tensor order = decoder.forward(prompt)[0][4].argsort(-1, true);
  const auto distinct = [&](std::int64_t top_k, double top_p) {
    GenerateOptions options;
    options.count = 1;
    options.temperature = 3;
    options.top_k = top_k;
    options.top_p = top_p;
    return std::get<0>(at::_unique(generate(decoder, many, options)));
  };
  EXPECT_TRUE(distinct(3, 1).equal(std::get<0>(order.narrow(0, 0, 3).sort())));
  EXPECT_TRUE(distinct(1, 1).equal(order.narrow(0, 0, 1)));
  EXPECT_TRUE(distinct(0, 1e-9).equal(order.narrow(0, 0, 1)));
  // The fewest tokens that hold half of the probability.
  const at::Tensor cumulative = at::softmax(decoder.forward(prompt)[0][4] / 3, 0).index_select(0, order).cumsum(0);
  const std::int64_t kept = cumulative.lt(0.5).sum().item<std::int64_t>() + 1;
  EXPECT_TRUE(distinct(0, 0.5).equal(std::get<0>(order.narrow(0, 0, kept).sort())));
}

TEST(Generate, TheSeedDecidesTheSample) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const at::Tensor prompt = test::random_ids(decoder.spec(), 2, 5);
  GenerateOptions options;
  options.temperature = 2;
  options.count = 30;
  const at::Tensor first = generate(decoder, prompt, options);
  EXPECT_TRUE(generate(decoder, prompt, options).equal(first));
  options.seed = 43;
  EXPECT_FALSE(generate(decoder, prompt, options).equal(first));
}

TEST(Generate, StopsWhenEveryRowHasStopped) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const at::Tensor prompt = test::random_ids(decoder.spec(), 1, 5);
  const at::Tensor greedy = greedy_continue(decoder, prompt, 10);
  GenerateOptions options;
  options.count = 10;
  const auto stop = greedy[0][2].item<std::int64_t>();
  options.stop = {stop};
  const std::int64_t length = (greedy[0].eq(stop).nonzero()[0].item<std::int64_t>()) + 1;
  EXPECT_TRUE(generate(decoder, prompt, options).equal(greedy.narrow(1, 0, length)));

  // A row that never stops keeps the other going, which is filled up.
  const at::Tensor both = at::cat({prompt, test::random_ids(decoder.spec(), 1, 5, 8)});
  const at::Tensor other = greedy_continue(decoder, both.narrow(0, 1, 1), 10);
  ASSERT_FALSE(other.eq(stop).any().item<bool>()) << "choose another prompt";
  const at::Tensor tokens = generate(decoder, both, options);
  ASSERT_EQ(tokens.size(1), 10);
  EXPECT_TRUE(tokens[0].narrow(0, 0, length).equal(greedy[0].narrow(0, 0, length)));
  EXPECT_TRUE(tokens[0].narrow(0, length, 10 - length).eq(stop).all().item<bool>());
  EXPECT_TRUE(tokens[1].equal(other[0]));
}

TEST(Generate, AnyOfSeveralTokensEndsASequence) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const at::Tensor prompt = test::random_ids(decoder.spec(), 1, 5);
  const at::Tensor greedy = greedy_continue(decoder, prompt, 10);
  const auto* tokens = greedy.const_data_ptr<std::int64_t>();
  GenerateOptions options;
  options.count = 10;
  options.stop = {tokens[6], tokens[3], 1000000};
  const std::int64_t length =
      std::find_first_of(tokens, tokens + 10, options.stop.begin(), options.stop.end()) - tokens + 1;
  ASSERT_LT(length, 10);
  EXPECT_TRUE(generate(decoder, prompt, options).equal(greedy.narrow(1, 0, length)));
}

std::vector<std::vector<std::int64_t>> mixed_prompts(const ModelSpec& spec, std::int64_t count) {
  std::vector<std::vector<std::int64_t>> prompts;
  for (std::int64_t i = 0; i < count; ++i) {
    const at::Tensor ids = test::random_ids(spec, 1, 1 + 7 * i % 23, static_cast<std::uint64_t>(i));
    prompts.emplace_back(ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + ids.numel());
  }
  return prompts;
}

class ManyRequests : public testing::TestWithParam<std::string> {};

TEST_P(ManyRequests, SixtyFourOfMixedLengthsEqualSingleRuns) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec(GetParam()));
  const auto prompts = mixed_prompts(decoder.spec(), 64);
  GenerateOptions options;
  options.count = 12;
  options.temperature = 0.9;
  options.top_p = 0.8;
  options.repetition_penalty = 1.3;
  options.stop = {7};
  options.cache_last = true;
  options.prefill_chunk = 9;
  const GenerateReport all = generate(decoder, prompts, options);
  std::int64_t held = 0, stopped = 0;
  options.prefill_chunk = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    options.first_row = static_cast<std::int64_t>(i);
    const GenerateReport one = generate(decoder, {prompts[i]}, options);
    EXPECT_EQ(all.sequences[i].tokens, one.sequences[0].tokens) << i;
    EXPECT_EQ(all.sequences[i].finish, one.sequences[0].finish) << i;
    EXPECT_EQ(one.cached_tokens, std::ssize(prompts[i]) + std::ssize(one.sequences[0].tokens));
    EXPECT_EQ(one.cache_bytes, one.predicted_bytes);
    held += one.cached_tokens;
    stopped += one.sequences[0].finish == Finish::kStop;
  }
  EXPECT_GT(stopped, 0) << "nothing left the batch early";
  EXPECT_LT(stopped, 64);
  EXPECT_EQ(all.cached_tokens, held);
  EXPECT_EQ(all.cache_bytes, all.predicted_bytes);
}

INSTANTIATE_TEST_SUITE_P(Kinds, ManyRequests, testing::Values("mha", "gqa", "window"),
                         [](const auto& test) { return test.param; });

TEST(Generate, TheSinkSeesEveryTokenAndMayEndASequence) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const auto prompts = mixed_prompts(decoder.spec(), 3);
  GenerateOptions options;
  options.count = 9;
  std::vector<std::vector<std::int64_t>> seen(3);
  const GenerateReport report =
      generate(decoder, prompts, options, DecodePath::kAuto, {}, [&](std::int64_t row, std::int64_t token) {
        seen[static_cast<std::size_t>(row)].push_back(token);
        return row != 1 || seen[1].size() < 4;
      });
  for (std::size_t row = 0; row < 3; ++row) EXPECT_EQ(seen[row], report.sequences[row].tokens);
  EXPECT_EQ(seen[1].size(), 4);
  EXPECT_EQ(report.sequences[1].finish, Finish::kCaller);
  EXPECT_EQ(report.sequences[0].finish, Finish::kLength);
  EXPECT_EQ(seen[0].size(), 9);
  // All but the last token of each is cached.
  EXPECT_EQ(report.cached_tokens, std::ssize(prompts[0]) + std::ssize(prompts[1]) + std::ssize(prompts[2]) + 8 + 3 + 8);
}

TEST(Generate, ThePenaltyKeepsTokensFromComingAgain) {
  RandomStream stream(1, "test");
  const at::Tensor logits = at::tensor({2.0, 1.5, -0.5, -1.0});
  const auto likeliest = [&](double penalty, const std::vector<std::int64_t>& seen) {
    return next_token(logits.clone(), {0, 0, 1, penalty}, seen, stream);
  };
  EXPECT_EQ(likeliest(1, {0, 1}), 0);
  EXPECT_EQ(likeliest(1.2, {0}), 0);
  EXPECT_EQ(likeliest(1.5, {0, 0}), 1) << "1.333 < 1.5, and a token counts once";
  EXPECT_EQ(next_token(at::tensor({-1.0, -1.5}), {0, 0, 1, 2.0}, {0}, stream), 1) << "negative logits are multiplied";
}

TEST(Generate, ABatchOfNothingIsRefused) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  EXPECT_EQ(test::message_of<ConfigError>(
                [&] { generate(decoder, std::vector<std::vector<std::int64_t>>{}, GenerateOptions{}); }),
            "generate: a batch of no prompts; expected at least one");
}

TEST(Generate, RefusesImpossibleOptions) {
  const auto message = [](auto change) {
    GenerateOptions options;
    change(options);
    return test::message_of<ConfigError>([&] { options.validate("generate"); });
  };
  EXPECT_EQ(message([](GenerateOptions&) {}), "no error");
  EXPECT_EQ(message([](GenerateOptions& o) { o.count = 0; }), "generate.count: 0 is less than 1");
  EXPECT_EQ(message([](GenerateOptions& o) { o.temperature = -1; }), "generate.temperature: -1 is not a number >= 0");
  EXPECT_EQ(message([](GenerateOptions& o) { o.top_k = -1; }), "generate.top_k: -1 is negative");
  EXPECT_EQ(message([](GenerateOptions& o) { o.top_p = 0; }), "generate.top_p: 0 is outside 0 < top_p <= 1");
  EXPECT_EQ(message([](GenerateOptions& o) { o.repetition_penalty = 0; }),
            "generate.repetition_penalty: 0 is not positive");
  EXPECT_EQ(message([](GenerateOptions& o) { o.prefill_chunk = -2; }), "generate.prefill_chunk: -2 is negative");
}

}  // namespace
}  // namespace mla
