#include "core/partial_rope/selector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <limits>

#include "core/base/error.h"
#include "core/base/registry.h"

namespace mla {
namespace {

using ::testing::HasSubstr;
using Pairs = std::vector<std::int64_t>;

const HeadGeometry kSelectorGeometry{.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 16};

/// The strategy, as one that picks pairs.
std::unique_ptr<RopeSelector> selector(const Json& config) {
  auto made = Registry<RotationStrategy>::instance().make(config, "compress[0].rope");
  auto* picking = dynamic_cast<RopeSelector*>(made.get());
  if (!picking) throw std::logic_error("a strategy that picks pairs");
  made.release();
  return std::unique_ptr<RopeSelector>(picking);
}

KeptPairs select(const Json& config, const PairNorms* norms = nullptr, std::int64_t layer = 0) {
  const auto rope = selector(config);
  rope->check(kSelectorGeometry, "compress[0].rope");
  return rope->select(layer, kSelectorGeometry, norms);
}

/// The message of the ConfigError that making and checking `config` ends with.
std::string selector_mistake(const Json& config, const HeadGeometry& geometry = kSelectorGeometry) {
  try {
    selector(config)->check(geometry, "compress[0].rope");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

PairNorms constant_norms() {
  return {std::vector<std::vector<double>>(4, std::vector<double>(8, 1.0)),
          std::vector<std::vector<double>>(2, std::vector<double>(8, 1.0))};
}

TEST(Selectors, FixedSets) {
  EXPECT_EQ(select({{"name", "high"}, {"pairs", 3}}), (KeptPairs{{0, 1, 2}, {0, 1, 2}}));
  EXPECT_EQ(select({{"name", "low"}, {"pairs", 3}}), (KeptPairs{{5, 6, 7}, {5, 6, 7}}));
  EXPECT_EQ(select({{"name", "uniform"}, {"pairs", 4}}), (KeptPairs{{0, 2, 4, 6}, {0, 2, 4, 6}}));
  EXPECT_EQ(select({{"name", "uniform"}, {"pairs", 4}, {"start", 1}}), (KeptPairs{{1, 3, 5, 7}, {1, 3, 5, 7}}));
  EXPECT_EQ(select({{"name", "all"}}), KeptPairs(2, Pairs{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(Selectors, CombsOfAllHeadsAreOneComb) {
  EXPECT_EQ(select({{"name", "comb"}, {"pairs", 2}}), (KeptPairs{{0, 4}, {2, 6}}));
  EXPECT_EQ(select({{"name", "comb"}, {"pairs", 3}}), (KeptPairs{{0, 2, 4}, {1, 3, 5}}));
  EXPECT_EQ(select({{"name", "comb"}, {"pairs", 1}}), (KeptPairs{{0}, {4}}));
  EXPECT_EQ(select({{"name", "comb"}, {"pairs", 5}}), (KeptPairs{{0, 1, 3, 4, 6}, {0, 2, 4, 5, 7}}));  // 10 of 8
  EXPECT_EQ(select({{"name", "comb"}, {"pairs", 0}}), KeptPairs(2));
}

TEST(Selectors, UniformIsDefinedWhereTheCountDoesNotDivide) {
  EXPECT_EQ(select({{"name", "uniform"}, {"pairs", 3}}).at(0), (Pairs{0, 2, 5}));        // floor(k * 16 / 6)
  EXPECT_EQ(select({{"name", "uniform"}, {"pairs", 5}}).at(0), (Pairs{0, 1, 3, 4, 6}));  // floor(k * 16 / 10)
}

TEST(Selectors, PairsMayDifferByLayer) {
  const Json config{{"name", "low"}, {"pairs", {1, 0}}};
  EXPECT_EQ(select(config, nullptr, 0), (KeptPairs{{7}, {7}}));
  EXPECT_EQ(select(config, nullptr, 1), (KeptPairs{{}, {}}));
  EXPECT_EQ(selector(config)->pairs(1, kSelectorGeometry), 0);
}

TEST(Selectors, ImpossibleCountsAreConfigErrors) {
  EXPECT_THAT(selector_mistake({{"name", "high"}, {"pairs", 9}}),
              HasSubstr("compress[0].rope.pairs = 9: head_dim 16 has 8 pairs"));
  EXPECT_THAT(selector_mistake({{"name", "two_norm"}, {"pairs", {1, -1}}}),
              HasSubstr("compress[0].rope.pairs[1] = -1: "));
  EXPECT_THAT(selector_mistake({{"name", "low"}, {"pairs", {1, 1, 1}}}),
              HasSubstr("a list of 3 values; the model has 2 layers"));
  EXPECT_THAT(selector_mistake({{"name", "uniform"}, {"pairs", 4}, {"start", 2}}),
              HasSubstr("compress[0].rope.start = 2: with 4 of 8 pairs it must lie in 0..1"));
  EXPECT_THAT(selector_mistake({{"name", "uniform"}, {"pairs", 4}, {"start", -1}}), HasSubstr("rope.start = -1"));
  EXPECT_THAT(selector_mistake({{"name", "two_norm"}, {"score", "sun"}}), HasSubstr("did you mean 'sum'"));
}

TEST(TwoNorm, PicksTheLoudPair) {
  PairNorms norms = constant_norms();
  norms.key[0][5] = 10;
  norms.query[2][1] = 10;  // one query head of KV head 1 suffices
  for (const char* score : {"product", "sum"}) {
    EXPECT_EQ(select({{"name", "two_norm"}, {"pairs", 1}, {"score", score}}, &norms), (KeptPairs{{5}, {1}}));
  }
}

TEST(TwoNorm, ProductAndSumCanDisagree) {
  PairNorms norms = constant_norms();
  for (int head : {0, 1}) norms.query[static_cast<std::size_t>(head)][3] = 9;  // product 2 * 0.9, sum 2 * 9.1
  norms.key[0][3] = 0.1;
  for (int head : {0, 1}) norms.query[static_cast<std::size_t>(head)][6] = 2;  // product 2 * 4, sum 2 * 4
  norms.key[0][6] = 2;
  EXPECT_EQ(select({{"name", "two_norm"}, {"pairs", 1}, {"score", "product"}}, &norms).at(0), Pairs{6});
  EXPECT_EQ(select({{"name", "two_norm"}, {"pairs", 1}, {"score", "sum"}}, &norms).at(0), Pairs{3});
}

TEST(TwoNorm, TiesGoToTheLowerPair) {
  const PairNorms norms = constant_norms();
  EXPECT_EQ(select({{"name", "two_norm"}, {"pairs", 3}}, &norms), (KeptPairs{{0, 1, 2}, {0, 1, 2}}));
}

TEST(TwoNorm, NormsMustBeThereFittingAndFinite) {
  PairNorms norms = constant_norms();
  const auto rope = selector({{"name", "two_norm"}, {"pairs", 2}});
  EXPECT_TRUE(rope->needs_norms());
  EXPECT_THROW(rope->select(0, kSelectorGeometry, nullptr), std::logic_error);
  norms.key[1][0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(rope->select(0, kSelectorGeometry, &norms), DataError);
  norms.key.pop_back();
  EXPECT_THROW(rope->select(0, kSelectorGeometry, &norms), std::logic_error);
}

TEST(Explicit, ReadsOneListOrAListPerLayerAndHead) {
  EXPECT_EQ(select({{"name", "explicit"}, {"kept", {6, 1}}}), (KeptPairs{{1, 6}, {1, 6}}));
  const Json nested{{"name", "explicit"}, {"kept", {{{6, 1}, {2, 3}}, {{0}, {7}}}}};
  EXPECT_EQ(select(nested, nullptr, 0), (KeptPairs{{1, 6}, {2, 3}}));
  EXPECT_EQ(select(nested, nullptr, 1), (KeptPairs{{0}, {7}}));
  EXPECT_EQ(selector(nested)->pairs(0, kSelectorGeometry), 2);
  EXPECT_EQ(select({{"name", "explicit"}, {"kept", Json::array()}}), (KeptPairs{{}, {}}));
}

TEST(Explicit, NamesWhatIsWrongWithAList) {
  const auto with = [](const Json& kept) { return selector_mistake({{"name", "explicit"}, {"kept", kept}}); };
  EXPECT_THAT(selector_mistake({{"name", "explicit"}}), HasSubstr("compress[0].rope.kept: missing"));
  EXPECT_THAT(with({1, 8}), HasSubstr("compress[0].rope.kept: no pair 8; head_dim 16 has pairs 0..7"));
  EXPECT_THAT(with({1, 1}), HasSubstr("pair 1 is listed twice"));
  EXPECT_THAT(with(Json::parse("[[[0], [1]]]")), HasSubstr("a list of 1; the model has 2 layers"));
  EXPECT_THAT(with(Json::parse("[[[0], [1]], [[0]]]")), HasSubstr("kept[1]: a list of 1; the model has 2 KV heads"));
  EXPECT_THAT(with(Json::parse("[[[0], [1, 2]], [[0], [1]]]")), HasSubstr("kept[0][1]: 2 pairs; KV head 0"));
  EXPECT_THAT(with(Json::parse("[[[0], [-1]], [[0], [1]]]")), HasSubstr("kept[0][1]: no pair -1"));
  EXPECT_THAT(with("high"), HasSubstr("compress[0].rope.kept: expected an array"));
  EXPECT_THAT(with(Json::parse("[[[0.5]]]")), HasSubstr("kept[0][0][0]: expected an integer"));
}

/// Kept sets and calibration norms of the authors' code.
class Golden : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const char* shared = std::getenv("MLA_SHARED");
    const std::filesystem::path root = shared ? shared : MLA_SOURCE_DIR "/../shared";
    const auto file = root / "data/conformance/mha2mla_conversion" / GetParam() / "golden.json";
    if (!std::filesystem::exists(file))
      GTEST_SKIP() << file << " is absent; MLA_SHARED names the folder of shared data";
    golden_ = read_json(file);
  }

  HeadGeometry geometry() const {
    const Json& config = golden_["config"];
    return {config["num_hidden_layers"], config["num_attention_heads"], config["num_key_value_heads"],
            golden_["head_dim"]};
  }

  PairNorms norms(std::size_t layer) const {
    return {golden_["mean_norm_q"][layer].get<std::vector<std::vector<double>>>(),
            golden_["mean_norm_k"][layer].get<std::vector<std::vector<double>>>()};
  }

  static Json config_of(const Json& record) {
    const std::string strategy = record["strategy"];
    Json config{{"name", strategy == "2-norm" ? "two_norm" : strategy}, {"pairs", record["kept_subspaces_per_head"]}};
    if (strategy == "2-norm") config["score"] = record["score_rule"];
    return config;
  }

  Json golden_;
};

TEST_P(Golden, KeepsThePairsOfTheAuthorsCode) {
  std::size_t compared = 0;
  for (const Json& record : golden_["cases"]) {
    SCOPED_TRACE(record["id"].get<std::string>());
    const auto rope = selector(config_of(record));
    rope->check(geometry(), "rope");
    for (std::size_t layer = 0; layer < record["keep"].size(); ++layer) {
      const PairNorms measured = norms(layer);
      EXPECT_EQ(rope->select(static_cast<std::int64_t>(layer), geometry(), &measured),
                record["keep"][layer].get<KeptPairs>());
      ++compared;
    }
  }
  EXPECT_GE(compared, 2 * 20U);
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, ::testing::Values("tinystories-656k", "llama-mha"), [](const auto& item) {
  std::string name = item.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace mla
