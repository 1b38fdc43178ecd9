// What a calibration gathers at the taps of a forward pass.
#include "core/compress/statistics.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "tests/support/attention_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kSameStatistic = 1e-12;

using Rows = std::vector<std::vector<std::int32_t>>;

Rows some_rows() { return {{3, 14, 15, 9, 26}, {5, 35, 8, 9, 7}, {9, 3, 2, 38}, {46, 26}}; }

/// All tokens that the tap shows in a layer, row by row without batches, [tokens, width].
at::Tensor shown(const Decoder& decoder, Tap tap, std::int64_t layer) {
  std::vector<at::Tensor> parts;
  const Observer observer{{tap}, [&](Tap, std::int64_t at, const at::Tensor& tensor) {
                            if (at == layer) parts.push_back(tensor.flatten(0, 1));
                          }};
  for (const auto& row : some_rows()) {
    const std::vector<std::int64_t> wide(row.begin(), row.end());
    decoder.observe(at::tensor(wide, at::kLong).unsqueeze(0), observer);
  }
  return at::cat(parts);
}

TEST(Reducers, AreTheseOnes) {
  EXPECT_THAT(Registry<Reducer>::instance().names(), testing::ElementsAre("pair_norms", "second_moment"));
}

TEST(Statistics, AreTheDefinitionWhateverTheBatches) {
  const c10::InferenceMode inference;
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const Requirement output{Tap::kAttentionContext, "second_moment"};
  const Requirements wanted{kQueryPairNorms, kKeyPairNorms, kInputMoment, output};
  std::int64_t told = 0;
  const Statistics statistics =
      calibrate(decoder, some_rows(), wanted, {.batch_tokens = 5}, [&](std::int64_t tokens) { told += tokens; });
  EXPECT_EQ(statistics.tokens, 16);
  EXPECT_EQ(told, 16);
  EXPECT_TRUE(statistics.covers(wanted));
  for (std::int64_t layer = 0; layer < decoder.spec().layer_count(); ++layer) {
    for (const Requirement& moment : {kInputMoment, output}) {
      const at::Tensor rows = shown(decoder, moment.tap, layer);
      EXPECT_LT(test::largest_difference(statistics.at(moment, layer), at::mm(rows.t(), rows) / 16), kSameStatistic);
    }
    EXPECT_EQ(statistics.at(kQueryPairNorms, layer).sizes(), (at::IntArrayRef{4, 4}));
    EXPECT_EQ(statistics.pair_norms(layer).key.size(), 2u);
  }
  const Statistics at_once = calibrate(decoder, some_rows(), wanted, {}, {});
  for (const auto& [key, value] : statistics.values)
    EXPECT_LT(test::largest_difference(at_once.values.at(key), value), kSameStatistic);
}

TEST(Statistics, AreKnownByTheirRows) {
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const auto hash_of = [&](const Rows& rows) { return calibrate(decoder, rows, {kInputMoment}, {}, {}).rows_hash; };
  EXPECT_EQ(hash_of(some_rows()), hash_of(some_rows()));
  EXPECT_NE(hash_of({{1, 2}, {3}}), hash_of({{1}, {2, 3}}));
  EXPECT_NE(hash_of({{1, 2}}), hash_of({{2, 1}}));
}

TEST(Statistics, LayersThatShowNothingHaveNone) {
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("shared_attention"));
  const Statistics statistics = calibrate(decoder, some_rows(), {kKeyPairNorms}, {}, {});
  EXPECT_TRUE(statistics.at(kKeyPairNorms, 0).defined());
  EXPECT_FALSE(statistics.at(kKeyPairNorms, 1).defined());
  EXPECT_THROW(statistics.at(kInputMoment, 0), std::logic_error) << "asked for, but not gathered";
  EXPECT_FALSE(statistics.covers({kInputMoment}));
}

}  // namespace
}  // namespace mla
