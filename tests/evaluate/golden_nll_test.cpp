// Token losses, greedy continuations and perplexities against independent float64 computations.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/evaluate/generate.h"
#include "core/evaluate/perplexity.h"
#include "core/evaluate/token_nll.h"
#include "core/model/checkpoint.h"
#include "core/text/document_reader.h"
#include "core/text/tokenizer.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kGoldenNllDoubleTolerance = 1e-9;
constexpr double kGoldenNllFloatTolerance = 1e-4;
constexpr double kStoryTolerance = 2e-9;       // the stored values have nine decimals
constexpr double kStoriesTolerance = 6e-7;     // the stored means have six decimals
constexpr double kPerplexityTolerance = 2e-6;  // relative, float32 against float32

Decoder load(const std::string& path, at::ScalarType dtype) {
  const LoadOptions options{.placement = Placement::in(dtype)};
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

struct HundredStories {
  std::string name, weights, tokenizer;
  std::size_t positions;
};

/// The ids of a story, words parted by one space, as the reference reads it: BOS, and each byte of a character that is
/// not in the vocabulary as <unk> where the vocabulary has no tokens for bytes.
std::vector<std::int32_t> reference_ids(const Tokenizer& tokenizer, const std::string& story, std::size_t positions) {
  std::istringstream words(story);
  std::string text;
  for (std::string word; words >> word;) text += (text.empty() ? "" : " ") + word;
  constexpr std::size_t kBytesOfQuotes = 3;  // the characters that the vocabulary lacks are all typographic quotes
  std::vector<std::int32_t> ids = {1};
  for (const std::int32_t id : tokenizer.encode(text)) ids.insert(ids.end(), id == 0 ? kBytesOfQuotes : 1, id);
  ids.resize(std::min(ids.size(), positions));
  return ids;
}

class StoriesNll : public testing::TestWithParam<HundredStories> {};

TEST_P(StoriesNll, MeanOfHundredStoriesMatches) {
  const HundredStories& at = GetParam();
  MLA_NEEDS_SHARED(at.weights);
  const std::filesystem::path shared = test::shared_folder();
  const Json golden = read_json(shared / "data/conformance/golden_nll_fp64.json")["models"][at.name];
  const auto tokenizer = load_tokenizer(shared / at.tokenizer);
  DocumentReader stories(shared / "data/corpora/tinystories/decoded_test.txt", {.separator = "<|endoftext|>"});
  std::vector<std::vector<std::int32_t>> rows;
  for (std::string story; rows.size() < 100 && stories.next(story);) {
    rows.push_back(reference_ids(*tokenizer, story, at.positions));
  }
  PerplexityOptions options;
  options.context = static_cast<std::int64_t>(at.positions);
  const PerplexityResult result = perplexity(load(at.weights, at::kDouble), rows, options);
  EXPECT_EQ(result.scored_tokens, golden["tokens"].get<std::int64_t>());
  EXPECT_NEAR(result.mean_nll, golden["mean_nll_100_stories"].get<double>(), kStoriesTolerance);
}

const std::string kTinyStories = "data/weights/tinystories-656k", kTok105 = "data/weights/babyllama-tok105";
INSTANTIATE_TEST_SUITE_P(
    Weights, StoriesNll,
    testing::Values(HundredStories{"stories260K", "data/weights/stories260K/stories260K.bin",
                                   "data/weights/stories260K/tok512.bin", 512},
                    HundredStories{"tinystories-656k", kTinyStories, kTinyStories, 512},
                    HundredStories{"tinystories-656k-bf16", kTinyStories + "/bf16", kTinyStories, 512},
                    HundredStories{"babyllama-tok105", kTok105 + "/model5000.bin", kTok105 + "/tok105.model", 256}),
    [](const auto& test) {
      std::string name = test.param.name;
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
