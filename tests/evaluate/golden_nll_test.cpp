// Token losses, greedy continuations and perplexities against independent float64 computations.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/evaluate/generate.h"
#include "core/evaluate/perplexity.h"
#include "core/evaluate/token_nll.h"
#include "core/model/checkpoint.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kGoldenNllDoubleTolerance = 1e-9;
constexpr double kGoldenNllFloatTolerance = 1e-4;
constexpr double kStoryTolerance = 2e-9;       // the stored values have nine decimals
constexpr double kPerplexityTolerance = 2e-6;  // relative, float32 against float32

Decoder load(const std::string& path, at::ScalarType dtype) {
  LoadOptions options;
  options.dtype = dtype;
  return load_checkpoint(test::shared_folder() / path, options).decoder;
}

template <class Value>
at::Tensor matrix(const Json& rows, at::ScalarType dtype) {
  std::vector<at::Tensor> all;
  for (const Json& row : rows) all.push_back(at::tensor(row.get<std::vector<Value>>(), dtype));
  return at::stack(all);
}

class FamilyNll : public testing::TestWithParam<std::tuple<std::string, at::ScalarType>> {};

TEST_P(FamilyNll, TokenNllAndGreedyContinuationMatch) {
  const auto [name, dtype] = GetParam();
  const std::string folder = "data/conformance/families/" + name;
  MLA_NEEDS_SHARED(folder);
  const Json golden = read_json(test::shared_folder() / folder / "golden.json");
  const Decoder decoder = load(folder, dtype);
  const at::Tensor ids = matrix<std::int64_t>(golden["input_ids"], at::kLong);
  EXPECT_LT(test::largest_difference(token_nll(decoder, ids), matrix<double>(golden["nll"], at::kDouble)),
            dtype == at::kDouble ? kGoldenNllDoubleTolerance : kGoldenNllFloatTolerance);
  const at::Tensor greedy = matrix<std::int64_t>(golden["greedy_16"], at::kLong);
  EXPECT_TRUE(greedy_continue(decoder, ids, greedy.size(1)).equal(greedy));
}

INSTANTIATE_TEST_SUITE_P(All, FamilyNll,
                         testing::Combine(testing::Values("llama-mha", "llama-gqa-tied", "llama-rope-llama3",
                                                          "mistral-gqa", "qwen2-gqa", "qwen3-gqa", "llama-sharded",
                                                          "llama-bf16"),
                                          testing::Values(at::kDouble, at::kFloat)),
                         [](const auto& test) {
                           std::string name = std::get<0>(test.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name + "_" + c10::toString(std::get<1>(test.param));
                         });

class StoryNll : public testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(StoryNll, TrainedModelsMatch) {
  const auto [name, path] = GetParam();
  MLA_NEEDS_SHARED(path);
  const Json golden = read_json(test::shared_folder() / "data/conformance/golden_nll_fp64.json");
  const Decoder decoder = load(path, at::kDouble);
  ASSERT_GE(golden["models"][name]["cases"].size(), 2U);
  for (const Json& story : golden["models"][name]["cases"]) {
    const at::Tensor ids = at::tensor(story["ids"].get<std::vector<std::int64_t>>(), at::kLong).unsqueeze(0);
    const at::Tensor expected = at::tensor(story["nll"].get<std::vector<double>>(), at::kDouble);
    EXPECT_LT(test::largest_difference(token_nll(decoder, ids)[0], expected), kStoryTolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Weights, StoryNll,
                         testing::Values(std::pair("stories260K", "data/weights/stories260K/stories260K.bin"),
                                         std::pair("tinystories-656k", "data/weights/tinystories-656k"),
                                         std::pair("tinystories-656k-bf16", "data/weights/tinystories-656k/bf16"),
                                         std::pair("babyllama-tok105", "data/weights/babyllama-tok105/model5000.bin")),
                         [](const auto& test) {
                           std::string name = test.param.first;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// The untouched models' rows of the quality bars.
TEST(QualityBars, BasePerplexity) {
  const std::string folder = "data/conformance/quality/";
  MLA_NEEDS_SHARED(folder);
  for (const auto& [name, path, expected] :
       {std::tuple("tinystories-656k", "data/weights/tinystories-656k", 18.72075828972198),
        std::tuple("stories260K", "data/weights/stories260K/stories260K.bin", 3.60909361348348)}) {
    const WeightMap data = read_safetensors(test::shared_folder() / folder / cat(name, ".safetensors"));
    const at::Tensor ids = data.at("eval_ids").to(at::kInt), lengths = data.at("eval_len").to(at::kInt);
    std::vector<std::vector<std::int32_t>> rows;
    for (std::int64_t i = 0; i < ids.size(0); ++i) {
      const std::int32_t* row = ids.const_data_ptr<std::int32_t>() + i * ids.size(1);
      rows.emplace_back(row, row + lengths.const_data_ptr<std::int32_t>()[i]);
    }
    const PerplexityResult result = perplexity(load(path, at::kFloat), rows, {});
    EXPECT_NEAR(result.perplexity, expected, kPerplexityTolerance * expected) << name;
  }
}

}  // namespace
}  // namespace mla
