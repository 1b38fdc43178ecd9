#include "core/kv_cache/layer_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <type_traits>

#include "core/kv_cache/stream.h"

namespace mla {
namespace {

TEST(LayerCache, ReturnsEverythingAppendedInOrder) {
  LayerCache cache({{"rope_key", 2, 4}, {"latent", 1, 6}}, 3, at::kFloat);
  std::vector<at::Tensor> keys;
  for (std::int64_t count : {5, 1, 1, 200, 3}) {
    keys.push_back(at::randn({3, 2, count, 4}));
    const at::Tensor all = cache.append(0, keys.back());
    cache.append(1, at::randn({3, 1, count, 6}));
    EXPECT_TRUE(at::equal(all, at::cat(keys, 2)));
  }
  EXPECT_EQ(cache.length(), 210);
}

TEST(LayerCache, CountsTheBytesOfItsTokens) {
  const std::vector<StreamShape> streams = {{"rope_key", 2, 4}, {"latent", 1, 6}};
  LayerCache cache(streams, 3, at::kBFloat16);
  cache.append(0, at::zeros({3, 2, 10, 4}));
  cache.append(1, at::zeros({3, 1, 10, 6}));
  EXPECT_EQ(cache.bytes(), 3 * 10 * elements_per_token(streams) * 2);
  EXPECT_GE(cache.allocated_bytes(), cache.bytes());
}

TEST(LayerCache, ResetForgetsAndReuses) {
  LayerCache cache({{"key", 1, 2}}, 1, at::kFloat);
  cache.append(0, at::ones({1, 1, 70, 2}));
  const std::int64_t allocated = cache.allocated_bytes();
  cache.reset();
  EXPECT_EQ(cache.length(), 0);
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(cache.append(0, at::zeros({1, 1, 3, 2})).size(2), 3);
  EXPECT_EQ(cache.allocated_bytes(), allocated);
}

static_assert(!std::is_copy_constructible_v<LayerCache> && !std::is_copy_assignable_v<LayerCache>,
              "copies would share buffers that both write to");
static_assert(std::is_nothrow_move_constructible_v<LayerCache>);

TEST(LayerCache, WhatSelectCopiesIsNotWrittenByTheOriginal) {
  LayerCache cache({{"key", 1, 2}}, 2, at::kFloat);
  cache.append(0, at::ones({2, 1, 5, 2}));
  LayerCache copy = cache.select(at::arange(2, at::kLong));
  cache.append(0, at::full({2, 1, 3, 2}, 2.0));
  const at::Tensor all = copy.append(0, at::full({2, 1, 3, 2}, 3.0));
  EXPECT_TRUE(at::equal(all, at::cat({at::ones({2, 1, 5, 2}), at::full({2, 1, 3, 2}, 3.0)}, 2)));
  cache.reset();
  cache.append(0, at::full({2, 1, 8, 2}, 4.0));
  EXPECT_TRUE(at::equal(copy.parts(0, 0)[0].plain, all[0]));
}

/// All tokens of one sequence as its parts hold them.
at::Tensor parts_of(const LayerCache& cache, std::int64_t row) {
  std::vector<at::Tensor> rows;
  for (const StreamPart& part : cache.parts(0, row)) rows.push_back(part.plain);
  return rows.empty() ? at::zeros({cache.streams()[0].heads, 0, cache.streams()[0].width}) : at::cat(rows, 1);
}

TEST(LayerCache, SequencesKeepTheirOwnLengths) {
  LayerCache cache({{"key", 2, 3}, {"value", 1, 5}}, 3, at::kFloat);
  std::vector<std::vector<at::Tensor>> kept(3);
  const std::vector<std::vector<std::int64_t>> steps = {{4, 0, 7}, {1, 1, 1}, {0, 90, 2}, {3, 3, 0}};
  std::int64_t total = 0;
  for (const auto& counts : steps) {
    const std::int64_t most = *std::max_element(counts.begin(), counts.end());
    const at::Tensor tokens = at::randn({3, 2, most, 3});
    cache.begin_step(counts);
    const at::Tensor all = cache.append(0, tokens);
    cache.append(1, at::randn({3, 1, most, 5}));
    for (std::size_t row = 0; row < 3; ++row) {
      const auto b = static_cast<std::int64_t>(row);
      kept[row].push_back(tokens[b].narrow(1, 0, counts[row]));
      const at::Tensor expected = at::cat(kept[row], 1);
      EXPECT_EQ(cache.lengths()[row], expected.size(1));
      EXPECT_TRUE(all[b].narrow(1, 0, expected.size(1)).equal(expected));
      EXPECT_TRUE(parts_of(cache, b).equal(expected));
      total += counts[row];
    }
    EXPECT_EQ(all.size(2), cache.length());
    EXPECT_TRUE(all.isfinite().all().item<bool>());
    EXPECT_EQ(cache.bytes(), total * 11 * 4);
    EXPECT_EQ(cache.predicted_bytes(), cache.bytes());
  }
  cache.begin_step({});
  cache.reset(1);
  EXPECT_EQ(cache.lengths(), (std::vector<std::int64_t>{8, 0, 10}));
  EXPECT_TRUE(parts_of(cache, 0).equal(at::cat(kept[0], 1)));
  EXPECT_THROW(cache.begin_step({1, 2}), std::logic_error);
}

TEST(LayerCache, ReserveIsKeptToAndGrowthWastesLittle) {
  LayerCache cache({{"key", 1, 4}}, 2, at::kFloat);
  cache.reserve(130);
  EXPECT_EQ(cache.allocated_bytes(), 2 * 3 * LayerCache::kBlock * 4 * 4);
  const at::Tensor token = at::zeros({2, 1, 1, 4});
  for (int i = 0; i < 3 * LayerCache::kBlock; ++i) cache.append(0, token);
  EXPECT_EQ(cache.allocated_bytes(), cache.bytes());
  for (int i = 0; i < 3000; ++i) cache.append(0, token);
  EXPECT_LT(cache.allocated_bytes(), cache.bytes() * 5 / 4 + 2 * LayerCache::kBlock * 16 + 1);
}

TEST(LayerCache, AForkSharesItsBeginning) {
  LayerCache cache({{"key", 2, 3}}, 2, at::kFloat);
  const at::Tensor first = at::randn({2, 2, 70, 3});
  cache.append(0, first);
  LayerCache forked = cache.fork(1, 3);
  EXPECT_EQ(forked.lengths(), (std::vector<std::int64_t>{70, 70, 70}));
  EXPECT_EQ(forked.bytes(), 70 * 6 * 4) << "stored once";
  EXPECT_EQ(forked.parts(0, 2)[0].plain.const_data_ptr(), cache.parts(0, 1)[0].plain.const_data_ptr()) << "not copied";
  const at::Tensor more = at::randn({3, 2, 2, 3});
  const at::Tensor all = forked.append(0, more);
  for (std::int64_t row = 0; row < 3; ++row) {
    EXPECT_TRUE(all[row].equal(at::cat({first[1], more[row]}, 1)));
    EXPECT_TRUE(parts_of(forked, row).equal(all[row]));
  }
  EXPECT_EQ(forked.bytes(), (70 + 3 * 2) * 6 * 4);
  EXPECT_EQ(forked.predicted_bytes(), forked.bytes());
  // Neither disturbs the other: not by growing, not by forgetting, not by a fork of the fork.
  cache.append(0, at::randn({2, 2, 500, 3}));
  cache.reset();
  cache.append(0, at::zeros({2, 2, 80, 3}));
  EXPECT_TRUE(parts_of(forked, 0).equal(all[0]));
  LayerCache again = forked.fork(2, 2);
  forked.reset(2);
  forked.append(0, at::zeros({3, 2, 1, 3}));
  EXPECT_TRUE(parts_of(again, 1).equal(all[2]));
  EXPECT_EQ(forked.lengths(), (std::vector<std::int64_t>{73, 73, 1}));
  EXPECT_TRUE(forked.append(0, at::ones({3, 2, 1, 3}))[2].narrow(1, 0, 2).equal(
      at::cat({at::zeros({2, 1, 3}), at::ones({2, 1, 3})}, 1)));
  const LayerCache selected = forked.select(at::tensor({2, 0}, at::kLong));
  EXPECT_TRUE(parts_of(selected, 1).equal(parts_of(forked, 0)));
  EXPECT_EQ(selected.lengths(), (std::vector<std::int64_t>{2, 74}));
}

TEST(LayerCache, RefusesTokensOfAnotherShape) {
  LayerCache cache({{"key", 2, 4}}, 1, at::kFloat);
  EXPECT_THROW(cache.append(0, at::zeros({1, 2, 1, 3})), std::logic_error);
}

}  // namespace
}  // namespace mla
