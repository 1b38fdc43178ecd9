// Continuations scored in batches, over shared contexts, against one plain forward pass each.
#include "core/evaluate/continuation.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/evaluate/continuation_rows.h"
#include "core/text/tokenizer.h"
#include "tests/support/direct_likelihood.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kContinuationRounding = 1e-10;

std::vector<std::int32_t> random_tokens(RandomStream& stream, std::int64_t vocabulary, std::size_t count) {
  std::vector<std::int32_t> tokens;
  while (tokens.size() < count)
    tokens.push_back(static_cast<std::int32_t>(stream.below(static_cast<std::uint64_t>(vocabulary))));
  return tokens;
}

Continuation continue_with(std::vector<std::int32_t> context, const std::vector<std::int32_t>& continuation) {
  const auto size = std::ssize(context);
  context.insert(context.end(), continuation.begin(), continuation.end());
  return {std::move(context), size};
}

/// Groups of two to four continuations of one to five tokens; some begin alike, some are single tokens, some differ in
/// their contexts, some contexts are equally long.
std::vector<ContinuationGroup> random_groups(std::int64_t vocabulary, std::size_t count) {
  RandomStream stream(5, "continuations");
  std::vector<ContinuationGroup> groups;
  for (std::size_t i = 0; i < count; ++i) {
    const auto context = random_tokens(stream, vocabulary, i % 3 == 0 ? 9 : 1 + stream.below(20));
    const auto beginning = random_tokens(stream, vocabulary, i % 2);
    ContinuationGroup group;
    for (std::size_t choice = 0; choice < 2 + i % 3; ++choice) {
      auto tokens = beginning;
      const auto rest = random_tokens(stream, vocabulary, i % 4 == 1 ? 1 : 1 + stream.below(4));
      tokens.insert(tokens.end(), rest.begin(), rest.end());
      group.push_back(
          continue_with(i % 7 == 6 && choice == 1 ? random_tokens(stream, vocabulary, 4) : context, tokens));
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

void expect_direct_values(const Decoder& decoder, const std::vector<ContinuationGroup>& groups,
                          const LikelihoodOptions& options) {
  std::int64_t done = 0, all = 0;
  const auto result = log_likelihoods(decoder, groups, options, [&](std::int64_t count) { done += count; });
  ASSERT_EQ(result.sum.size(), groups.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    ASSERT_EQ(result.sum[i].size(), groups[i].size());
    all += std::ssize(groups[i]);
    for (std::size_t choice = 0; choice < groups[i].size(); ++choice) {
      EXPECT_NEAR(result.sum[i][choice], test::direct_log_likelihood(decoder, groups[i][choice]), kContinuationRounding)
          << "group " << i << ", continuation " << choice;
    }
  }
  EXPECT_EQ(done, all);
}

class LogLikelihoods : public testing::TestWithParam<std::tuple<std::string, std::int64_t, bool>> {};

TEST_P(LogLikelihoods, EqualOnePassEach) {
  const auto& [kind, batch_tokens, share] = GetParam();
  const Decoder decoder = test::tiny_decoder(test::tiny_spec(kind));
  const auto groups = random_groups(decoder.spec().vocabulary, 40);
  LikelihoodOptions options;
  options.batch_tokens = batch_tokens;
  options.share_contexts = share;
  expect_direct_values(decoder, groups, options);
}

INSTANTIATE_TEST_SUITE_P(KindsAndBatches, LogLikelihoods,
                         testing::Combine(testing::ValuesIn(test::tiny_kinds()), testing::Values(1, 70, 8192),
                                          testing::Bool()));

TEST(LogLikelihoodsOfAConvertedModel, EqualOnePassEach) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const auto pass = Registry<Pass>::instance().make({{"name", "mha2mla"},
                                                     {"rope", {{"name", "high"}, {"pairs", 1}}},
                                                     {"low_rank", {{"name", "joint_svd"}, {"d_kv", 4}}}},
                                                    "pass");
  PassInputs inputs;
  inputs.arithmetic = at::kDouble;
  pass->apply(decoder, inputs);
  expect_direct_values(decoder, random_groups(decoder.spec().vocabulary, 30), {});
}

TEST(LogLikelihoodsOfADynamicModel, EqualOnePassEach) {
  ModelSpec spec = test::tiny_spec("mha");
  spec.rope_scaling.type = "dynamic";
  spec.rope_scaling.factor = 4;
  spec.rope_scaling.original_positions = 4;
  const Decoder decoder = test::tiny_decoder(spec);
  ASSERT_TRUE(decoder.spec().rotary().depends_on_length());
  RandomStream stream(6, "dynamic");
  std::vector<ContinuationGroup> groups;
  for (std::size_t length : {4U, 7U}) {
    const auto context = random_tokens(stream, spec.vocabulary, length);
    groups.push_back({continue_with(context, {1}), continue_with(context, {2, 3}), continue_with(context, {2, 3, 4})});
  }
  expect_direct_values(decoder, groups, {});
}

TEST(LogLikelihoods, CutLongContextsOnTheLeftAndCountThem) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.max_positions = 10;
  const Decoder decoder = test::tiny_decoder(spec);
  RandomStream stream(7, "long");
  const auto context = random_tokens(stream, spec.vocabulary, 9), longer = random_tokens(stream, spec.vocabulary, 15);
  // 9 + 2 - 1 inputs just fit; the other three do not.
  const std::vector<ContinuationGroup> groups = {{continue_with(context, {1, 2}), continue_with(context, {1, 2, 3})},
                                                 {continue_with(longer, {4}), continue_with(longer, {5, 6})}};
  expect_direct_values(decoder, groups, {});
  EXPECT_EQ(log_likelihoods(decoder, groups, {}).truncated, 3);
  const std::vector<ContinuationGroup> endless = {{continue_with(context, random_tokens(stream, spec.vocabulary, 11))}};
  EXPECT_THAT(
      test::message_of<DataError>([&] { log_likelihoods(decoder, endless, {}); }),
      HasSubstr(
          "item 1, choice 1: a continuation of 11 tokens leaves no room for its context: the model has 10 positions"));
}

TEST(ContinuationRows, ContinuationsOfOneTokenShareARow) {
  const ContinuationGroup group = {continue_with({1, 2, 3}, {4}), continue_with({1, 2, 3}, {5}),
                                   continue_with({1, 2, 3}, {6})};
  const ContinuationPlan plan = plan_continuations({group}, 100, false, true);
  ASSERT_EQ(plan.rows.size(), 1U);
  EXPECT_EQ(plan.rows[0].length(), 3);
  EXPECT_EQ(plan.rows[0].scored.size(), 3U);
}

TEST(ContinuationRows, ALongContextIsFedOnce) {
  const std::vector<std::int32_t> context(30, 1);
  const ContinuationGroup group = {continue_with(context, {2, 3, 4}), continue_with(context, {3, 4, 5}),
                                   continue_with(context, {4, 5})};
  const ContinuationPlan shared = plan_continuations({group}, 100, false, true);
  ASSERT_EQ(shared.rows.size(), 3U);
  for (const ContinuationRow& row : shared.rows) EXPECT_EQ(row.shared, 30);
  for (const ContinuationRow& row : plan_continuations({group}, 100, false, false).rows) EXPECT_EQ(row.shared, 0);
  // Where little is in common, sharing does not pay.
  const ContinuationGroup short_context = {continue_with({1}, {2, 3, 4}), continue_with({1}, {3, 4, 5})};
  for (const ContinuationRow& row : plan_continuations({short_context}, 100, false, true).rows)
    EXPECT_EQ(row.shared, 0);
}

// Passes over few tokens wait for the weights; groups that share nearly as much go together, at a small cost.
TEST(ContinuationRows, GroupsThatShareNearlyAsMuchShareEquallyMuch) {
  std::vector<ContinuationGroup> groups;
  for (const std::size_t length : {41U, 60U, 40U, 42U}) {
    const std::vector<std::int32_t> context(length, 1);
    groups.push_back(
        {continue_with(context, {2, 3, 4}), continue_with(context, {3, 4, 5}), continue_with(context, {4, 5})});
  }
  std::vector<std::int64_t> shared(groups.size());
  for (const ContinuationRow& row : plan_continuations(groups, 100, false, true).rows) shared[row.group] = row.shared;
  EXPECT_EQ(shared, (std::vector<std::int64_t>{40, 60, 40, 40}));
}

TEST(JoinContinuation, SplitsAsLightevalDoes) {
  const Continuation plain = join_continuation({1, 2}, {1, 2, 3, 4});
  EXPECT_EQ(plain.tokens, (std::vector<std::int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(plain.context, 2);
  // A merge across the border: the context keeps its own tokens, the continuation is what the whole has beyond them.
  const Continuation merged = join_continuation({1, 2}, {1, 9, 4});
  EXPECT_EQ(merged.tokens, (std::vector<std::int32_t>{1, 2, 4}));
  EXPECT_EQ(merged.context, 2);
  // A merge that leaves nothing: the last token is the continuation.
  const Continuation swallowed = join_continuation({1, 2}, {1, 9});
  EXPECT_EQ(swallowed.tokens, (std::vector<std::int32_t>{1, 9}));
  EXPECT_EQ(swallowed.context, 1);
  EXPECT_THAT(test::message_of<DataError>([] {
                join_continuation({}, {3, 4});
              }),
              HasSubstr("no token to condition on"));
}

TEST(EncodeContinuations, CountsSpaceAtTheContextsEndToTheContinuation) {
  const test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::tiny_sentencepiece_like().dump());
  const auto tokenizer = load_tokenizer(folder.path());
  const auto inside = encode_continuations(*tokenizer, {"ab "}, {{"abc", "ba"}});
  const auto outside = encode_continuations(*tokenizer, {"ab"}, {{" abc", " ba"}});
  ASSERT_EQ(inside.size(), 1U);
  for (std::size_t choice = 0; choice < 2; ++choice) {
    EXPECT_EQ(inside[0][choice].tokens, outside[0][choice].tokens);
    EXPECT_EQ(inside[0][choice].context, outside[0][choice].context);
    EXPECT_EQ(inside[0][choice].tokens, tokenizer->encode(choice == 0 ? "ab abc" : "ab ba", {.add_bos = true}));
  }
}

}  // namespace
}  // namespace mla
