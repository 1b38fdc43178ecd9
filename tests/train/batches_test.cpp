// What batch sources hand out, and in which order.
#include "core/train/batches.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
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

TEST(RowBatches, RefusesRowsWithNothingToPredict) {
  EXPECT_EQ(test::message_of<DataError>([] {
              RowBatches source({{1, 2}, {3}});
            }),
            "training rows: row 1: expected at least 2 tokens, found 1");
  EXPECT_EQ(test::message_of<DataError>([] { RowBatches source({}); }),
            "training rows: expected at least one, found none");
}

}  // namespace
}  // namespace mla
