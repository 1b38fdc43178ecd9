// What batch sources hand out, and in which order.
#include "core/train/batches.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using Ids = std::vector<std::int64_t>;

Ids values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<std::int64_t>(), flat.const_data_ptr<std::int64_t>() + flat.numel()};
}

std::vector<std::vector<std::int32_t>> counting_documents() {
  std::vector<std::int32_t> first(10), second(13);
  std::iota(first.begin(), first.end(), 0);
  std::iota(second.begin(), second.end(), 10);
  return {first, second};
}

TEST(PackedBatches, AnEpochPredictsEachTokenOnce) {
  PackedBatches source(counting_documents(), 4, 1);  // 23 tokens: five sequences of 4, targets 1 … 20
  ASSERT_EQ(source.sequences(), 5);
  const Batch batch = source.next(5);
  EXPECT_EQ(batch.scored, 20);
  EXPECT_TRUE(batch.targets.equal(batch.ids + 1));
  const Ids targets = values(batch.targets);
  EXPECT_EQ(std::set<std::int64_t>(targets.begin(), targets.end()).size(), 20U);
  EXPECT_EQ(*std::max_element(targets.begin(), targets.end()), 20);
}

TEST(PackedBatches, EpochsHaveTheirOwnOrderDecidedByTheSeed) {
  std::vector<std::int32_t> tokens(1001);
  std::iota(tokens.begin(), tokens.end(), 0);
  PackedBatches source({tokens}, 10, 5), same({tokens}, 10, 5), other({tokens}, 10, 6);
  const Ids first = values(source.next(100).ids), second = values(source.next(100).ids);
  EXPECT_NE(first, second);
  EXPECT_EQ(std::set<std::int64_t>(first.begin(), first.end()), std::set<std::int64_t>(second.begin(), second.end()));
  EXPECT_EQ(values(same.next(100).ids), first);
  EXPECT_NE(values(other.next(100).ids), first);
}

TEST(PackedBatches, ContinuesFromAPositionAcrossEpochs) {
  PackedBatches whole(counting_documents(), 4, 9);
  whole.next(3);
  whole.next(4);
  const std::int64_t position = whole.position();
  EXPECT_EQ(position, 7);
  PackedBatches again(counting_documents(), 4, 9);
  again.seek(position);
  EXPECT_TRUE(again.next(6).ids.equal(whole.next(6).ids));
}

TEST(PackedBatches, RefusesTooShortATextAndNoLength) {
  EXPECT_EQ(test::message_of<DataError>([] {
              PackedBatches({{1, 2}, {3}}, 3, 0);
            }),
            "training text: expected at least 4 tokens for one sequence, found 3");
  EXPECT_EQ(test::message_of<DataError>([] { PackedBatches(std::vector<std::vector<std::int32_t>>{}, 3, 0); }),
            "training text: expected at least 4 tokens for one sequence, found 0");
  EXPECT_EQ(test::message_of<ConfigError>([] {
              PackedBatches({{1, 2, 3}}, 0, 0);
            }),
            "sequence_length: 0 is less than 1");
}

std::shared_ptr<const TokenStream> stream(std::vector<std::vector<std::int32_t>> documents) {
  return std::make_shared<MemoryTokens>(documents);
}

TEST(PackedBatches, KeptBoundariesAreNotNamed) {
  PackedBatches source({{stream(counting_documents())}}, 4, 1);
  EXPECT_FALSE(source.next(2).documents.defined());
}

/// Documents 0-2, 3, 4-9, 10-13 (and an empty one), cut into sequences of 4 inputs.
TEST(PackedBatches, MaskedBoundariesKeepDocumentsApart) {
  PackedBatches source({{stream({{0, 1, 2}, {3}, {}, {4, 5, 6, 7, 8, 9}, {10, 11, 12, 13}})}}, 4, 1,
                       DocumentBoundaries::kMasked);
  const Batch batch = source.next(3);
  EXPECT_EQ(batch.documents.scalar_type(), at::kLong);
  constexpr std::int64_t kNone = kIgnoredTarget;
  std::map<std::int64_t, std::pair<Ids, Ids>> by_first_token;  // documents, targets
  for (std::int64_t row = 0; row < 3; ++row) {
    by_first_token[batch.ids[row][0].item<std::int64_t>()] = {values(batch.documents[row]), values(batch.targets[row])};
  }
  EXPECT_EQ(by_first_token[0], std::pair(Ids({0, 0, 0, 3}), Ids({1, 2, kNone, kNone})));
  EXPECT_EQ(by_first_token[4], std::pair(Ids({0, 0, 0, 0}), Ids({5, 6, 7, 8})));
  EXPECT_EQ(by_first_token[8], std::pair(Ids({0, 0, 2, 2}), Ids({9, kNone, 11, 12})));
  EXPECT_EQ(batch.scored, 2 + 4 + 3);
}

/// Sources are told apart by their tokens: 1000 and up, 2000 and up, ….
std::vector<WeightedTokens> three_sources() {
  std::vector<WeightedTokens> sources;
  const double weights[] = {0.5, 0.3, 0.2};
  for (int source = 0; source < 3; ++source) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(41 + 20 * source));
    std::iota(tokens.begin(), tokens.end(), 1000 * (source + 1));
    sources.push_back({stream({tokens}), weights[source]});
  }
  return sources;
}

TEST(PackedBatches, AMixtureDrawsEachSourceWholeBeforeAgain) {
  constexpr std::int64_t kRows = 400;
  PackedBatches source(three_sources(), 4, 3);
  const Ids firsts = values(source.next(kRows).ids.select(1, 0));
  std::map<std::int64_t, std::vector<std::int64_t>> drawn;
  for (const std::int64_t first : firsts) drawn[first / 1000 - 1].push_back(first);
  EXPECT_EQ(drawn[0].size(), 200u);
  EXPECT_EQ(drawn[1].size(), 120u);
  EXPECT_EQ(drawn[2].size(), 80u);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto epoch = static_cast<std::size_t>(source.sequences(i));
    ASSERT_EQ(epoch, 10 + 5 * i);
    const auto& all = drawn[static_cast<std::int64_t>(i)];
    for (std::size_t begin = 0; begin + epoch <= all.size(); begin += epoch) {
      EXPECT_EQ(std::set<std::int64_t>(all.begin() + static_cast<std::ptrdiff_t>(begin),
                                       all.begin() + static_cast<std::ptrdiff_t>(begin + epoch))
                    .size(),
                epoch);
    }
  }
}

TEST(PackedBatches, AMixtureContinuesFromAnyPosition) {
  PackedBatches whole(three_sources(), 4, 3);
  const at::Tensor ids = whole.next(300).ids;
  PackedBatches other(three_sources(), 4, 3);
  for (const std::int64_t position : {290, 3, 77, 150}) {
    other.seek(position);
    EXPECT_TRUE(other.next(10).ids.equal(ids.narrow(0, position, 10))) << position;
  }
}

TEST(PackedBatches, NamesTheSourceThatIsTooShort) {
  EXPECT_EQ(test::message_of<DataError>([] {
              PackedBatches({{stream({{1, 2, 3, 4, 5}})}, {stream({{1}}), 2, "train.mixture[1].data"}}, 3, 0);
            }),
            "training text of train.mixture[1].data: expected at least 4 tokens for one sequence, found 1");
}

TEST(RowBatches, PadsOnTheRightWithoutScoring) {
  RowBatches source({{5, 6, 7, 8}, {9, 10}});
  const Batch batch = source.next(2);
  EXPECT_EQ(batch.ids.sizes(), at::IntArrayRef({2, 3}));
  EXPECT_EQ(values(batch.ids), Ids({5, 6, 7, 9, 0, 0}));
  EXPECT_EQ(values(batch.targets), Ids({6, 7, 8, 10, kIgnoredTarget, kIgnoredTarget}));
  EXPECT_EQ(batch.scored, 4);
}

TEST(RowBatches, KeepsTheOrderAndWraps) {
  RowBatches source({{1, 2}, {3, 4}, {5, 6}});
  EXPECT_EQ(values(source.next(2).ids), Ids({1, 3}));
  EXPECT_EQ(values(source.next(2).ids), Ids({5, 1}));
  source.seek(1);
  EXPECT_EQ(values(source.next(1).ids), Ids({3}));
}

TEST(RowBatches, ASeedShufflesEachEpoch) {
  std::vector<std::vector<std::int32_t>> rows;
  for (std::int32_t i = 0; i < 20; ++i) rows.push_back({i, i});
  RowBatches source(rows, 7), other(rows, 8);
  const Ids first = values(source.next(20).ids), second = values(source.next(20).ids);
  EXPECT_NE(first, second);
  EXPECT_NE(first, values(other.next(20).ids));
  for (Ids epoch : {first, second}) {
    std::sort(epoch.begin(), epoch.end());
    for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(epoch[i], static_cast<std::int64_t>(i));
  }
  source.seek(25);
  EXPECT_EQ(values(source.next(1).ids), Ids({second[5]}));
}

TEST(RowBatches, RefusesRowsWithNothingToPredict) {
  EXPECT_EQ(test::message_of<DataError>([] {
              RowBatches source({{1, 2}, {3}});
            }),
            "training rows: row 1: expected at least 2 tokens, found 1");
  EXPECT_EQ(test::message_of<DataError>([] { RowBatches source(std::vector<std::vector<std::int32_t>>{}); }),
            "training rows: expected at least one, found none");
}

std::shared_ptr<const TokenStream> prompts_and_completions() {
  return std::make_shared<MemoryTokens>(std::vector<std::vector<std::int32_t>>{{1, 2, 3, 4}, {5, 6, 7}},
                                        std::vector<std::vector<std::uint8_t>>{{0, 0, 1, 1}, {0, 0, 1}});
}

TEST(RowBatches, OnlyWhatTheStreamWantsIsATarget) {
  RowBatches source(prompts_and_completions());
  const Batch batch = source.next(2);
  const std::int64_t none = kIgnoredTarget;
  EXPECT_EQ(values(batch.ids), (Ids{1, 2, 3, 5, 6, 0}));
  EXPECT_EQ(values(batch.targets), (Ids{none, 3, 4, none, 7, none}));
  EXPECT_EQ(batch.scored, 3);
}

TEST(PackedBatches, OnlyWhatTheStreamWantsIsATarget) {
  const std::int64_t none = kIgnoredTarget;
  for (const auto boundaries : {DocumentBoundaries::kKept, DocumentBoundaries::kMasked}) {
    PackedBatches source({{prompts_and_completions()}}, 6, 1, boundaries);
    const Batch batch = source.next(1);
    EXPECT_EQ(values(batch.ids), (Ids{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(values(batch.targets), (Ids{none, 3, 4, none, none, 7}));
    EXPECT_EQ(batch.scored, 3);
  }
}

}  // namespace
}  // namespace mla
