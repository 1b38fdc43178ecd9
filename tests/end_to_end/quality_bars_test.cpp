// Zero-shot perplexity of converted real models against what the official code reached with the same cached elements.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/evaluate/perplexity.h"
#include "core/model/checkpoint.h"
#include "tests/support/shared_data.h"

namespace mla {
namespace {

constexpr double kRelativeTolerance = 0.005;
/// Cells of this many cached elements per token and layer are run; the others differ in the width alone.
const std::map<std::string, std::vector<std::int64_t>> kCells = {{"tinystories-656k", {40, 24}},
                                                                 {"stories260K", {20, 10}}};

using Rows = std::vector<std::vector<std::int32_t>>;

Rows to_rows(const at::Tensor& ids, const at::Tensor& lengths) {
  Rows rows;
  const at::Tensor dense = ids.to(at::kInt).contiguous();
  for (std::int64_t i = 0; i < dense.size(0); ++i) {
    const std::int32_t* begin = dense.const_data_ptr<std::int32_t>() + i * dense.size(1);
    rows.emplace_back(begin, begin + (lengths.defined() ? lengths[i].item<std::int64_t>() : dense.size(1)));
  }
  return rows;
}

class QualityBars : public testing::TestWithParam<std::string> {};

TEST_P(QualityBars, ZeroShotConversionsMatch) {
  const std::string name = GetParam();
  MLA_NEEDS_SHARED("data/conformance/quality");
  const auto folder = test::shared_folder() / "data/conformance/quality";
  const WeightMap data = read_safetensors(folder / (name + ".safetensors"));
  const Rows evaluation = to_rows(data.at("eval_ids"), data.at("eval_len"));
  const Checkpoint source = load_checkpoint(test::shared_folder() / "data/weights" /
                                            (name == "stories260K" ? "stories260K/stories260K.bin" : name));
  const Statistics statistics =
      calibrate(source.decoder, to_rows(data.at("calib_ids"), {}), {kQueryPairNorms, kKeyPairNorms}, {}, {});
  PerplexityOptions options;
  options.context = 256;

  int compared = 0;
  const Json bars = read_json(folder / "bars.json");
  for (const Json& bar : bars["results"]) {
    if (bar["model"] != name || bar["stage"] != "zero-shot" || bar["peer"] != "MHA2MLA" || bar["svd"] == "none")
      continue;
    const auto cells = kCells.at(name);
    if (std::find(cells.begin(), cells.end(), bar["kv_values"].get<std::int64_t>()) == cells.end()) continue;
    const std::string strategy = bar["strategy"];
    const Json rope = {{"name", strategy == "2-norm" ? "two_norm" : strategy},
                       {"pairs", bar["d_r"].get<std::int64_t>() / 2}};
    const Json low_rank = {{"name", bar["svd"].get<std::string>() + "_svd"}, {"latent", bar["latent"]}};
    Decoder decoder = source.decoder.clone();
    PassInputs inputs;
    inputs.statistics = &statistics;
    const auto pass =
        Registry<Pass>::instance().make({{"name", "mha2mla"}, {"rope", rope}, {"low_rank", low_rank}}, "bar");
    run_pass("mha2mla", *pass, decoder, inputs);
    EXPECT_EQ(cached_elements(decoder.spec().attention(0)), bar["kv_values"].get<std::int64_t>());
    const double found = perplexity(decoder, evaluation, options).perplexity;
    EXPECT_NEAR(found / bar["ppl"].get<double>(), 1, kRelativeTolerance) << bar.dump() << " found " << found;
    ++compared;
  }
  EXPECT_GE(compared, 12);
  EXPECT_NEAR(perplexity(source.decoder, evaluation, options).perplexity, name == "stories260K" ? 3.6091 : 18.7208,
              1e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, QualityBars, testing::Values("tinystories-656k", "stories260K"), [](const auto& test) {
  return test.param == "stories260K" ? "stories260K" : "tinystories_656k";
});

}  // namespace
}  // namespace mla
