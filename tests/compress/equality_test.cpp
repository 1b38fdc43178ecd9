// What must not change when a model is converted, cached, absorbed or saved; on every kind of source model.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kEqualityDoubleTolerance = 1e-10;
constexpr double kEqualityFloatTolerance = 1e-4;
constexpr std::int64_t kLength = 24;

Json mha2mla(const Json& rope, const Json& low_rank) {
  return {{"name", "mha2mla"}, {"rope", rope}, {"low_rank", low_rank}};
}

std::vector<std::vector<std::int32_t>> calibration_rows(const ModelSpec& spec) {
  const at::Tensor ids = test::random_ids(spec, 4, 20, 11);
  std::vector<std::vector<std::int32_t>> rows;
  for (std::int64_t i = 0; i < ids.size(0); ++i) {
    const std::int64_t* row = ids.const_data_ptr<std::int64_t>() + i * ids.size(1);
    rows.emplace_back(row, row + ids.size(1));
  }
  return rows;
}

Decoder converted(const Decoder& source, const Json& config, PassReport* report = nullptr) {
  const auto pass = Registry<Pass>::instance().make(config, "compress[0]");
  Statistics statistics;
  PassInputs inputs;
  inputs.arithmetic = source.compute_dtype;
  if (!pass->requirements().empty()) {
    statistics = calibrate(source, calibration_rows(source.spec()), pass->requirements(), {}, {});
    inputs.statistics = &statistics;
  }
  Decoder decoder = source.clone();
  PassReport result = run_pass("mha2mla", *pass, decoder, inputs);
  if (report) *report = std::move(result);
  return decoder;
}

/// Logits of the last position after feeding `ids` through the cache in chunks of the given sizes.
at::Tensor through_cache(const Decoder& decoder, const at::Tensor& ids, const std::vector<std::int64_t>& chunks,
                         DecodePath path) {
  DecoderCache cache = decoder.make_cache(ids.size(0));
  at::Tensor logits;
  std::int64_t at_token = 0;
  for (const std::int64_t count : chunks) {
    logits = decoder.forward_cached(ids.narrow(1, at_token, count), cache, path);
    at_token += count;
  }
  EXPECT_EQ(at_token, ids.size(1));
  return logits;
}

class Equality : public testing::TestWithParam<std::string> {
 protected:
  Equality()
      : source(test::tiny_decoder(test::tiny_spec(GetParam()))), ids(test::random_ids(source.spec(), 2, kLength)) {}
  HeadFields heads() const { return *source.spec().attention(0).heads(); }
  bool qk_norm() const { return heads().qk_norm; }
  /// Elements per KV head of a latent that loses nothing with `pairs` pairs kept.
  std::int64_t full_joint(std::int64_t pairs) const {
    const HeadFields g = heads();
    return std::min(source.spec().hidden, g.kv_heads * (2 * g.head_dim - 2 * pairs)) / g.kv_heads;
  }
  double difference(const Decoder& other) const {
    return test::largest_difference(source.forward(ids), other.forward(ids));
  }

  Decoder source;
  at::Tensor ids;
  c10::InferenceMode inference;
};

TEST_P(Equality, AllPairsWithoutLowRankIsTheSourceModel) {
  EXPECT_LT(difference(converted(source, mha2mla({{"name", "all"}}, {{"name", "none"}}))), kEqualityDoubleTolerance);
}

TEST_P(Equality, OneRotatedKeyThatKeepsAllOfOneHeadIsTheSourceModel) {
  const Json rope = {{"name", "rorope"}};
  if (qk_norm()) {
    EXPECT_THAT(test::message_of<ConfigError>([&] {
                  converted(source, mha2mla(rope, {{"name", "none"}}));
                }),
                testing::HasSubstr("compress[0].rope.name: qwen3 normalises its keys"));
    return;
  }
  UniformModel uniform = test::tiny_model(GetParam());
  uniform.heads.kv_heads = 1;
  const Decoder one = test::tiny_decoder(uniform.spec());
  const Decoder all = converted(one, mha2mla(rope, {{"name", "none"}}));
  EXPECT_LT(test::largest_difference(one.forward(ids), all.forward(ids)), kEqualityDoubleTolerance);
  // Of several heads some of the rotation is lost, and what is left decodes as it reads, at any rank.
  const std::int64_t content = heads().kv_heads * heads().head_dim;
  const Decoder partial = converted(source, mha2mla(rope, {{"name", "none"}}));
  if (heads().kv_heads > 1) {
    EXPECT_GT(difference(partial), 1e-4);
  }
  const std::int64_t full = std::min(source.spec().hidden, 2 * content);
  const Decoder whole = converted(source, mha2mla(rope, {{"name", "joint_svd"}, {"latent", full}}));
  EXPECT_LT(test::largest_difference(partial.forward(ids), whole.forward(ids)), kEqualityDoubleTolerance);
  for (const Json& low_rank : {Json{{"name", "none"}}, Json{{"name", "joint_svd"}, {"latent", 9}}}) {
    for (const Json& fold : {Json{{"name", "rorope"}}, Json{{"name", "rorope"}, {"fold", 2}, {"collapse", 2}}}) {
      const Decoder latent = converted(source, mha2mla(fold, low_rank));
      const at::Tensor expected = latent.forward(ids).select(1, kLength - 1);
      for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
        EXPECT_LT(test::largest_difference(through_cache(latent, ids, {10, 9, 1, 1, 3}, path), expected),
                  kEqualityDoubleTolerance);
      }
    }
  }
}

TEST_P(Equality, AllPairsAndFullRankIsTheSourceModel) {
  const std::int64_t pairs = heads().head_dim / 2;
  const std::string method = qk_norm() ? "value_svd" : "joint_svd";
  EXPECT_LT(difference(converted(source, mha2mla({{"name", "all"}}, {{"name", method}, {"d_kv", full_joint(pairs)}}))),
            kEqualityDoubleTolerance);
}

TEST_P(Equality, FullRankIsPartialRopeAlone) {
  for (const std::int64_t pairs : {0, 1, 3}) {
    for (const char* rope : {"high", "low", "uniform", "two_norm"}) {
      const Json selection = {{"name", rope}, {"pairs", pairs}};
      const Decoder partial = converted(source, mha2mla(selection, {{"name", "none"}}));
      EXPECT_GT(difference(partial), 1e-3) << "dropping rotations must change something";
      if (qk_norm()) {
        const Decoder full = converted(source, mha2mla(selection, {{"name", "value_svd"}, {"d_kv", heads().head_dim}}));
        EXPECT_LT(test::largest_difference(partial.forward(ids), full.forward(ids)), kEqualityDoubleTolerance)
            << rope << pairs;
        continue;
      }
      const Decoder full = converted(source, mha2mla(selection, {{"name", "joint_svd"}, {"d_kv", full_joint(pairs)}}));
      EXPECT_LT(test::largest_difference(partial.forward(ids), full.forward(ids)), kEqualityDoubleTolerance)
          << rope << pairs;
    }
  }
}

TEST_P(Equality, TwoStagesWithoutTrainingAreOne) {
  for (const char* low_rank : {"joint_svd", "split_svd", "value_svd", "none"}) {
    if (qk_norm() && std::string(low_rank).ends_with("t_svd")) continue;
    Json factors = {{"name", low_rank}};
    if (std::string(low_rank) != "none") factors["d_kv"] = 3;
    const Json config = mha2mla({{"name", "two_norm"}, {"pairs", 2}}, factors);
    PassReport at_once;
    const Decoder expected = converted(source, config, &at_once);
    const auto pass = Registry<Pass>::instance().make(config, "compress[0]");
    const Statistics statistics = calibrate(source, calibration_rows(source.spec()), pass->requirements(), {}, {});
    PassInputs inputs;
    inputs.arithmetic = source.compute_dtype;
    inputs.statistics = &statistics;
    Decoder decoder = source.clone();
    std::vector<PassReport> reports;
    for (const Json& step : pass->steps()) {
      reports.push_back(run_pass("step", *Registry<Pass>::instance().make(step, "compress[0]"), decoder, inputs));
    }
    ASSERT_EQ(reports.size(), 2);
    const PassReport& report = reports.back();
    EXPECT_EQ(test::largest_difference(expected.forward(ids), decoder.forward(ids)), 0) << low_rank;
    for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
      EXPECT_EQ(report.layers[layer].kept, at_once.layers[layer].kept);
      EXPECT_EQ(report.layers[layer].error.joint, at_once.layers[layer].error.joint);
      EXPECT_EQ(report.layers[layer].error.value, at_once.layers[layer].error.value);
    }
    EXPECT_EQ(report.after, at_once.after);
    if (std::string(low_rank) != "none") {
      const auto again = Registry<Pass>::instance().make(pass->steps().back(), "compress[1]");
      EXPECT_THAT(test::message_of<ConfigError>([&] { again->plan(decoder.spec()); }),
                  testing::HasSubstr("layer 0 is of kind latent and has factors already"));
    }
  }
}

TEST_P(Equality, CachedIsUncachedOnEveryPath) {
  std::vector<Json> conversions = {mha2mla({{"name", "high"}, {"pairs", 1}}, {{"name", "none"}}),
                                   mha2mla({{"name", "two_norm"}, {"pairs", 2}}, {{"name", "value_svd"}, {"d_kv", 3}}),
                                   mha2mla({{"name", "two_norm"}, {"pairs", 0}}, {{"name", "value_svd"}, {"d_kv", 3}})};
  if (!qk_norm()) {
    for (const std::int64_t pairs : {0, 1, 2, 4}) {
      conversions.push_back(mha2mla({{"name", "two_norm"}, {"pairs", pairs}}, {{"name", "joint_svd"}, {"d_kv", 3}}));
      conversions.push_back(mha2mla({{"name", "uniform"}, {"pairs", pairs}}, {{"name", "split_svd"}, {"d_kv", 5}}));
    }
  }
  const std::vector<std::vector<std::int64_t>> chunkings = {
      {kLength}, {10, 9, 5}, std::vector<std::int64_t>(kLength, 1)};
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const double tolerance = dtype == at::kDouble ? kEqualityDoubleTolerance : kEqualityFloatTolerance;
    const Decoder model = test::tiny_decoder(source.spec(), dtype);
    for (const Json& conversion : conversions) {
      const Decoder latent = converted(model, conversion);
      const at::Tensor expected = latent.forward(ids).select(1, kLength - 1);
      for (const auto& chunks : chunkings) {
        for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
          EXPECT_LT(test::largest_difference(through_cache(latent, ids, chunks, path), expected), tolerance)
              << conversion.dump() << " chunks " << chunks.size() << " path " << static_cast<int>(path);
        }
      }
    }
    EXPECT_LT(test::largest_difference(through_cache(model, ids, {10, 9, 5}, DecodePath::kAuto),
                                       model.forward(ids).select(1, kLength - 1)),
              tolerance);
  }
}

TEST_P(Equality, ABatchOfAnyLengthsIsManySingleSequences) {
  std::vector<Decoder> models;
  models.push_back(source.clone());
  models.push_back(converted(source, mha2mla({{"name", "two_norm"}, {"pairs", 1}},
                                             {{"name", qk_norm() ? "value_svd" : "joint_svd"}, {"d_kv", 3}})));
  const at::Tensor rows = test::random_ids(source.spec(), 5, kLength, 21);
  // Prompts of different lengths; then some sequences go on alone, rest, or are fed several tokens.
  const std::vector<std::vector<std::int64_t>> steps = {
      {7, 1, 0, 12, 3}, {1, 1, 1, 1, 1}, {0, 4, 9, 1, 0}, {1, 0, 1, 0, 1}, {2, 3, 0, 1, 5}};
  for (Decoder& model : models) {
    model.prepare_decode();
    for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
      DecoderCache cache = model.make_cache(5);
      std::vector<std::int64_t> fed(5, 0);
      for (const auto& counts : steps) {
        const std::int64_t most = *std::max_element(counts.begin(), counts.end());
        at::Tensor now = at::zeros({5, most}, at::kLong);
        for (std::size_t row = 0; row < 5; ++row) {
          const auto b = static_cast<std::int64_t>(row);
          now[b].narrow(0, 0, counts[row]).copy_(rows[b].narrow(0, fed[row], counts[row]));
          fed[row] += counts[row];
        }
        const at::Tensor logits = model.forward_cached(now, cache, path, counts);
        for (std::size_t row = 0; row < 5; ++row) {
          if (counts[row] == 0) continue;
          const auto b = static_cast<std::int64_t>(row);
          const at::Tensor expected =
              model.forward(rows.narrow(0, b, 1).narrow(1, 0, fed[row])).select(1, fed[row] - 1);
          EXPECT_LT(test::largest_difference(logits.narrow(0, b, 1), expected), kEqualityDoubleTolerance)
              << row << " path " << static_cast<int>(path);
        }
      }
      EXPECT_EQ(cache.lengths(), fed);
      EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
      // A sequence that is forgotten leaves a place for another; the rest goes on.
      cache.reset(3);
      const at::Tensor again = model.forward_cached(rows.narrow(1, 0, 1), cache, path, {0, 0, 0, 1, 0});
      EXPECT_LT(test::largest_difference(again[3], model.forward(rows.narrow(0, 3, 1).narrow(1, 0, 1))[0][0]),
                kEqualityDoubleTolerance);
      // Forks go on where the sequence stood.
      DecoderCache forks = cache.fork(1, 3);
      EXPECT_EQ(forks.bytes(), forks.predicted_bytes());
      const at::Tensor next = at::tensor({3, 4, 5}, at::kLong).view({3, 1});
      const at::Tensor forked = model.forward_cached(next, forks, path);
      for (std::int64_t i = 0; i < 3; ++i) {
        const at::Tensor whole = at::cat({rows.narrow(0, 1, 1).narrow(1, 0, fed[1]), next.narrow(0, i, 1)}, 1);
        EXPECT_LT(test::largest_difference(forked[i], model.forward(whole).select(1, fed[1])[0]),
                  kEqualityDoubleTolerance);
      }
      EXPECT_EQ(cache.lengths()[1], fed[1]);
    }
  }
}

TEST_P(Equality, PredictedBytesAndParametersAreWhatTheModelHolds) {
  std::vector<Json> ranks = {{{"name", "none"}}, {{"name", "value_svd"}, {"d_kv", 3}}};
  if (!qk_norm())
    ranks.insert(ranks.end(), {{{"name", "joint_svd"}, {"d_kv", Json{3, 5}}}, {{"name", "split_svd"}, {"d_kv", 4}}});
  for (const Json& low_rank : ranks) {
    for (const char* rope : {"high", "two_norm"}) {
      PassReport report;
      const Decoder latent = converted(source, mha2mla({{"name", rope}, {"pairs", 2}}, low_rank), &report);
      DecoderCache cache = latent.make_cache(2);
      latent.forward_cached(ids, cache);
      EXPECT_EQ(cache.bytes(), 2 * kLength * cached_elements(report.after) * static_cast<std::int64_t>(sizeof(double)));
      EXPECT_EQ(latent.parameter_count(), count_parameters(report.after).total()) << low_rank.dump() << rope;
      EXPECT_EQ(latent.spec(), report.after);
    }
  }
}

TEST_P(Equality, SavedAndLoadedIsTheSame) {
  Checkpoint checkpoint = test::tiny_checkpoint(GetParam());
  checkpoint.decoder = converted(
      checkpoint.decoder,
      mha2mla({{"name", "two_norm"}, {"pairs", 1}}, {{"name", qk_norm() ? "value_svd" : "split_svd"}, {"d_kv", 4}}));
  const test::TemporaryFolder folder;
  save_checkpoint(checkpoint, folder.path());
  const LoadOptions options{.placement = Placement::in(at::kDouble)};
  const Checkpoint loaded = load_checkpoint(folder.path(), options);
  EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), checkpoint.decoder.forward(ids)));
  EXPECT_EQ(loaded.decoder.spec(), checkpoint.decoder.spec());
}

TEST_P(Equality, ConvertingTwiceIsRefused) {
  const Json config = mha2mla({{"name", "high"}, {"pairs", 1}}, {{"name", "none"}});
  Decoder decoder = converted(source, config);
  const auto pass = Registry<Pass>::instance().make(config, "compress[0]");
  EXPECT_THAT(test::message_of<ConfigError>([&] { pass->apply(decoder, {}); }),
              testing::HasSubstr("layer 0 is converted already"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, Equality, testing::ValuesIn(test::tiny_kinds()));

TEST(EqualityAcrossModels, RepeatingKvHeadsWithHalfTheWidthChangesNothing) {
  const c10::InferenceMode inference;
  const Decoder grouped = test::tiny_decoder(test::tiny_spec("gqa"));
  UniformModel wide = test::tiny_model("gqa");
  const HeadFields few = wide.heads;
  wide.heads.kv_heads = few.heads;
  const ModelSpec spec = wide.spec();
  // The same function as MHA: each KV head stands once for every query head of its group.
  WeightMap weights;
  const_cast<Decoder&>(grouped).visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    const bool repeated = name.ends_with("k_proj.weight") || name.ends_with("v_proj.weight");
    weights[name] = repeated ? tensor.view({few.kv_heads, 1, few.head_dim, -1})
                                   .expand({-1, 2, -1, -1})
                                   .reshape({few.heads * few.head_dim, -1})
                             : tensor;
  });
  const LoadOptions options{.placement = Placement::in(at::kDouble)};
  const Decoder repeated = build_decoder(spec, weights, "repeated", options);
  const at::Tensor ids = test::random_ids(spec, 2, kLength);
  ASSERT_LT(test::largest_difference(grouped.forward(ids), repeated.forward(ids)), kEqualityDoubleTolerance);
  for (const char* method : {"joint_svd", "split_svd"}) {
    for (const char* rope : {"high", "low", "uniform"}) {
      const Json selection = {{"name", rope}, {"pairs", 2}};
      const Decoder a = converted(grouped, mha2mla(selection, {{"name", method}, {"d_kv", 6}}));
      const Decoder b = converted(repeated, mha2mla(selection, {{"name", method}, {"d_kv", 3}}));
      EXPECT_LT(test::largest_difference(a.forward(ids), b.forward(ids)), kEqualityDoubleTolerance) << method << rope;
    }
  }
}

/// Expects that a pass makes the same model of `source` with `store`'s decompositions as alone; returns the former.
Decoder expect_same_from_store(const Pass& pass, const Decoder& source, const at::Tensor& ids,
                               DecompositionStore& store) {
  PassInputs inputs;
  inputs.arithmetic = at::kDouble;
  Decoder apart = source.clone(), shared = source.clone();
  pass.apply(apart, inputs);
  inputs.store = &store;
  pass.apply(shared, inputs);
  EXPECT_LT(test::largest_difference(apart.forward(ids), shared.forward(ids)), kEqualityDoubleTolerance);
  return shared;
}

TEST(EqualityAcrossRanks, OneDecompositionServesEveryWidth) {
  const c10::InferenceMode inference;
  const Decoder source = test::tiny_decoder(test::tiny_spec("mha"));
  const at::Tensor ids = test::random_ids(source.spec(), 1, kLength);
  DecompositionStore store;
  std::vector<std::unique_ptr<Pass>> passes;
  for (const std::int64_t width : {6, 2, 4, 6}) {
    passes.push_back(Registry<Pass>::instance().make(
        mha2mla({{"name", "high"}, {"pairs", 1}}, {{"name", "joint_svd"}, {"d_kv", width}}), "compress[0]"));
    passes.back()->announce(source.spec(), store);
  }
  for (const auto& pass : passes) {
    Decoder shared = expect_same_from_store(*pass, source, ids, store);
    // Training the converted model must not reach what the next cell is cut from.
    shared.visit_parameters([](const std::string&, at::Tensor& tensor) { tensor.add_(1); });
  }
  EXPECT_EQ(store.computed(), source.spec().layer_count());
}

// A sweep over factorizers: `none` is wider than any low rank can be, fewer pairs leave more to factorize.
TEST(EqualityAcrossRanks, CellsOfOtherKindsDoNotWidenEachOther) {
  const c10::InferenceMode inference;
  const Decoder source = test::tiny_decoder(test::tiny_spec("gqa"));
  const at::Tensor ids = test::random_ids(source.spec(), 1, kLength);
  DecompositionStore store;
  std::vector<std::unique_ptr<Pass>> passes;
  for (const char* method : {"none", "joint_svd", "split_svd"}) {
    for (const int pairs : {0, 1, 3}) {
      Json low_rank = {{"name", method}};
      if (low_rank["name"] != "none") low_rank["d_kv"] = 2;
      passes.push_back(
          Registry<Pass>::instance().make(mha2mla({{"name", "high"}, {"pairs", pairs}}, low_rank), "compress[0]"));
      passes.back()->announce(source.spec(), store);
    }
  }
  for (const auto& pass : passes) expect_same_from_store(*pass, source, ids, store);
}

TEST(QkNorm, LowRankKeysAreRefusedWithWhatIsExact) {
  const ModelSpec spec = test::tiny_spec("qk_norm");
  const auto pass =
      Registry<Pass>::instance().make(mha2mla({{"name", "high"}}, {{"name", "joint_svd"}, {"d_kv", 4}}), "compress[0]");
  EXPECT_THAT(test::message_of<ConfigError>([&] { pass->plan(spec); }),
              testing::AllOf(testing::HasSubstr("compress[0].low_rank.name = joint_svd"), testing::HasSubstr("QK-norm"),
                             testing::HasSubstr("exact here: none, value_svd")));
}

}  // namespace
}  // namespace mla
