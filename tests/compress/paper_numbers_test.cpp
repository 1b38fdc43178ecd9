// Cache percentages and parameter counts of the paper, from geometry alone.
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/registry.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

ModelSpec llama(std::int64_t hidden, std::int64_t intermediate, std::int64_t layers, std::int64_t heads,
                std::int64_t kv_heads, std::int64_t vocabulary, bool tied) {
  UniformModel model;
  model.model.family = "llama";
  model.model.hidden = hidden;
  model.model.vocabulary = vocabulary;
  model.model.tied_embeddings = tied;
  model.model.rope_dim = hidden / heads;
  model.heads.heads = heads;
  model.heads.kv_heads = kv_heads;
  model.heads.head_dim = hidden / heads;
  model.feed_forward.width = intermediate;
  model.layers = layers;
  return model.spec();
}

struct PaperModel {
  std::string name;
  ModelSpec spec;
  double source_millions;        ///< as the paper's table 4 counts
  double not_counted_millions;   ///< Llama2-7B: one embedding matrix is left out of the paper's count
  std::vector<double> millions;  ///< at d_kv = head_dim / 2, / 4, / 8
  double printed_unit;           ///< the last digit the paper prints, in millions
};

std::vector<PaperModel> paper_models() {
  return {
      {"SmolLM-135M", llama(576, 1536, 30, 9, 3, 49152, true), 134.52, 0, {130.99, 129.64, 128.97}, 0.01},
      {"SmolLM-360M", llama(960, 2560, 32, 15, 5, 49152, true), 361.82, 0, {351.38, 347.38, 345.39}, 0.01},
      {"SmolLM-1.7B", llama(2048, 8192, 24, 32, 32, 49152, true), 1710, 0, {1670, 1590, 1560}, 10},
      {"Llama2-7B", llama(4096, 11008, 32, 32, 32, 32000, false), 6610, 32000.0 * 4096 / 1e6, {6370, 5990, 5790}, 10}};
}

ModelSpec plan(const ModelSpec& spec, std::int64_t d_kv, const std::string& method) {
  const Json config = {{"name", "mha2mla"},
                       {"rope", {{"name", "two_norm"}, {"pairs", spec.rope_dim / 16}}},
                       {"low_rank", {{"name", method}, {"d_kv", d_kv}}}};
  return Registry<Pass>::instance().make(config, "compress[0]")->plan(spec);
}

TEST(PaperNumbers, ParameterCountsOfTable4) {
  for (const PaperModel& model : paper_models()) {
    const auto millions = [&](std::int64_t count) {
      return static_cast<double>(count) / 1e6 - model.not_counted_millions;
    };
    EXPECT_NEAR(millions(count_parameters(model.spec).total()), model.source_millions, model.printed_unit / 2)
        << model.name;
    for (int i = 0; i < 3; ++i) {
      const std::int64_t d_kv = model.spec.rope_dim >> (i + 1);
      EXPECT_NEAR(millions(count_parameters(plan(model.spec, d_kv, "joint_svd")).total()),
                  model.millions[static_cast<std::size_t>(i)], model.printed_unit / 2)
          << model.name << " d_kv " << d_kv;
    }
  }
}

TEST(PaperNumbers, CacheRatiosOfTable1) {
  for (const PaperModel& model : paper_models()) {
    for (const char* method : {"joint_svd", "split_svd"}) {
      EXPECT_DOUBLE_EQ(cache_ratio(model.spec, plan(model.spec, model.spec.rope_dim / 2, method)), 0.3125)
          << model.name;
      EXPECT_DOUBLE_EQ(cache_ratio(model.spec, plan(model.spec, model.spec.rope_dim / 4, method)), 0.1875)
          << model.name;
      EXPECT_DOUBLE_EQ(cache_ratio(model.spec, plan(model.spec, model.spec.rope_dim / 8, method)), 0.125) << model.name;
    }
  }
}

TEST(PaperNumbers, FourBitsGiveTheHeadlineSaving) {
  const ModelSpec llama2 = paper_models()[3].spec;
  EXPECT_DOUBLE_EQ(100 * (1 - cache_ratio(llama2, plan(llama2, 64, "joint_svd")) * 4 / 16), 92.1875);
}

}  // namespace
}  // namespace mla
