// A real language model, SmolLM2-135M-Instruct as GGUF (`make smollm2` fetches it), against other libraries' numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/file.h"
#include "core/evaluate/perplexity.h"
#include "core/model/checkpoint.h"
#include "core/text/tokenizer.h"
#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"

namespace mla {
namespace {

using testing::HasSubstr;

std::filesystem::path smollm2() {
  return std::filesystem::path(MLA_SOURCE_DIR) / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

#define MLA_NEEDS_SMOLLM2()                                                                                     \
  if (!std::filesystem::exists(smollm2())) {                                                                    \
    GTEST_SKIP() << "build/models holds no " << smollm2().filename().string() << "; `make smollm2` fetches it"; \
  }

std::string wikitext2() { return read_file(test::shared_folder() / "data/corpora/wikitext2/wiki.test.raw"); }

TEST(SmolLm2, TokenizesAsItsTokenizerJson) {
  MLA_NEEDS_SMOLLM2();
  MLA_NEEDS_SHARED("data/tokenizers/smollm");
  MLA_NEEDS_SHARED("data/corpora/wikitext2/wiki.test.raw");
  const auto inside = load_tokenizer(smollm2());
  const auto original = load_tokenizer(test::shared_folder() / "data/tokenizers/smollm");
  EXPECT_EQ(inside->vocabulary_size(), original->vocabulary_size());
  EXPECT_EQ(inside->bos(), 1);
  EXPECT_EQ(inside->eos(), 2);
  const std::string vectors =
      read_file(test::shared_folder() / "data/tokenizers/ggml-vectors/ggml-vocab-gpt-2.gguf.inp");
  for (const std::string& text : {wikitext2(), vectors, std::string("<|im_start|>user\nHi 123<|im_end|>\n")}) {
    const auto ids = original->encode(text, {.add_bos = true});
    EXPECT_TRUE(inside->encode(text, {.add_bos = true}) == ids);
    EXPECT_EQ(inside->decode(ids), original->decode(ids));
  }
}

// transformers 5 on PyTorch 2.11, float32, the weights dequantized by the Python package gguf: the first 12 x 1,024
// tokens of wikitext-2's test text.
constexpr double kMeanNll = 3.264867236566664;
constexpr std::size_t kRows = 12, kLength = 1024;

double mean_nll(const Decoder& decoder) {
  const auto ids = load_tokenizer(smollm2())->encode(wikitext2());
  std::vector<std::vector<std::int32_t>> rows;
  for (std::size_t i = 0; i < kRows; ++i) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(i * kLength);
    rows.emplace_back(begin, begin + kLength);
  }
  PerplexityOptions options;
  options.context = kLength;
  const PerplexityResult result = perplexity(decoder, rows, options);
  EXPECT_EQ(result.scored_tokens, static_cast<std::int64_t>(kRows * (kLength - 1)));
  return result.mean_nll;
}

TEST(SmolLm2, PerplexityIsThatOfTransformersOnTheDequantizedWeights) {
  MLA_NEEDS_SMOLLM2();
  MLA_NEEDS_SHARED("data/corpora/wikitext2/wiki.test.raw");
  EXPECT_NEAR(mean_nll(load_checkpoint(smollm2()).decoder), kMeanNll, 1e-4);
}

TEST(SmolLm2, PackedItsPerplexityIsThatOfLlamaCpp) {
  MLA_NEEDS_SMOLLM2();
  MLA_NEEDS_SHARED("data/corpora/wikitext2/wiki.test.raw");
  // llama.cpp as xllamacpp 2026.10.11549 compiles it, which rounds rows to 8 bits as well; and the dense model's.
  constexpr double kLlamaCpp = 26.2521, kTolerance = 0.005;
  LoadOptions packed;
  packed.weights = HeldWeights::kPacked;
  const double found = std::exp(mean_nll(load_checkpoint(smollm2(), packed).decoder));
  EXPECT_NEAR(found / kLlamaCpp, 1, kTolerance);
  EXPECT_NEAR(found / std::exp(kMeanNll), 1, kTolerance);
}

TEST(SmolLm2, ProductsInBFloat16LeaveThePerplexity) {
  MLA_NEEDS_SMOLLM2();
  MLA_NEEDS_SHARED("data/corpora/wikitext2/wiki.test.raw");
  const Placement placement = Placement::in(at::kFloat, at::kCPU, Products::kBFloat16);
  EXPECT_NEAR(mean_nll(load_checkpoint(smollm2(), {.placement = placement}).decoder), kMeanNll, 1e-3) << "a thousandth";
}

TEST(SmolLm2, WritesSensibleText) {
  MLA_NEEDS_SMOLLM2();
  const auto result = test::run_program({"generate", "--model", smollm2().string(), "--prompt",
                                         "The capital of France is", "--new-tokens", "4", "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("The capital of France is Paris."));
}

TEST(SmolLm2, AnswersAsItWasTrained) {
  MLA_NEEDS_SMOLLM2();
  const auto result = test::run_program({"generate", "--model", smollm2().string(), "--chat", "--prompt",
                                         "What is the capital of France?", "--new-tokens", "24", "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "The capital of France is Paris.\n");
}

}  // namespace
}  // namespace mla
