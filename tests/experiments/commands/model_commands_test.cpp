// Every command that reads a model, on a tiny one and on the shared conformance models.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/evaluate/generate.h"
#include "core/evaluate/token_nll.h"
#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using testing::HasSubstr;

constexpr double kGoldenTolerance = 1e-9;
constexpr double kSameTolerance = 1e-12;
constexpr double kFloatTolerance = 1e-5;
constexpr const char* kText = "ab ab\nba abab ba\n\nab";

/// One model for all tests of this file.
class ModelCommands : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::TemporaryFolder;
    test::write_tiny_model(*folder_ / "model");
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string model() { return (*folder_ / "model").string(); }
  static Decoder decoder(at::ScalarType dtype) {
    return load_checkpoint(model(), {.placement = Placement::in(dtype)}).decoder;
  }

  static test::TemporaryFolder* folder_;
};
test::TemporaryFolder* ModelCommands::folder_ = nullptr;

TEST_F(ModelCommands, InspectCountsParametersAndCache) {
  const auto result = run_program({"inspect", model(), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  const Decoder source = decoder(at::kFloat);
  EXPECT_EQ(report["family"], "llama");
  EXPECT_EQ(report["geometry"]["vocabulary"], test::kTinyTokens);
  EXPECT_EQ(report["geometry"]["kv_heads"], 2);
  EXPECT_EQ(report["parameters"]["total"], source.parameter_count());
  EXPECT_EQ(report["parameters"]["embedding"], test::kTinyTokens * 32);
  EXPECT_EQ(report["parameters"]["attention"], 2 * (2 * 32 * 32 + 2 * 16 * 32));
  EXPECT_EQ(report["parameters"]["mlp"], 2 * 3 * 32 * 48);
  EXPECT_EQ(report["parameters"]["norms"], 5 * 32);
  EXPECT_EQ(report["parameters"]["output"], 0);
  EXPECT_EQ(report["parameters"], report["source_parameters"]);
  ASSERT_EQ(report["layers"].size(), 2);
  EXPECT_EQ(report["layers"][1]["attention"], "grouped_query");
  EXPECT_EQ(report["layers"][1]["pairs"], 4);
  EXPECT_EQ(report["layers"][1]["cached_elements_per_token"], 32);
  EXPECT_EQ(report["layers"][1]["cached_bytes_per_token"], 64);
  EXPECT_EQ(report["cached_elements_per_token"], 64);
  EXPECT_EQ(report["cache"]["predicted_bytes"], 64 * 64 * 2);
  EXPECT_EQ(report["cache"]["counted_bytes"], 64 * 64 * 2);
  EXPECT_EQ(report["cache_ratio"], 1.0);
  EXPECT_EQ(run_program({"inspect", model(), "--json", "--dtype", "float32"}).json()["cached_bytes_per_token"], 256);
}

TEST_F(ModelCommands, InspectPrintsATable) {
  const auto result = run_program({"inspect", model()});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("4 query, 2 key/value, head_dim 8"));
  EXPECT_THAT(result.out, HasSubstr("grouped_query"));
}

TEST_F(ModelCommands, InspectShowsLatentLayers) {
  const std::string converted = (*folder_ / "converted").string();
  ASSERT_EQ(run_program({"convert", "--model", model(), "--output", converted, "--rope", "high", "--pairs", "1",
                         "--low-rank", "joint_svd", "--d-kv", "4", "--json"})
                .exit_code,
            0);
  const auto result = run_program({"inspect", converted, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json(), layer = report["layers"][0];
  EXPECT_EQ(report["family"], "llama");
  EXPECT_EQ(layer["attention"], "latent");
  EXPECT_EQ(layer["pairs"], 1);
  EXPECT_EQ(layer["latent_width"], 8);
  EXPECT_EQ(layer["cached_elements_per_token"], 2 * 2 + 8);
  EXPECT_EQ(report["cache_ratio"], 12.0 / 32.0);
  EXPECT_EQ(report["source_cached_elements_per_token"], 64);
}

TEST_F(ModelCommands, ScoreHandlesRowsOfAnyLength) {
  const Json request = {
      {"ids", {{1, 70, 80, 90, 70}, {5}, {1, 71, 80, 90, 70}, {9, 8, 7}}}, {"last", 2}, {"greedy_tokens", 3}};
  const auto ids = folder_->write("ids.json", request.dump());
  const auto result = run_program({"score", "--model", model(), "--ids", ids.string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json scores = result.json();
  const Decoder reference = decoder(at::kDouble);
  const at::NoGradGuard no_grad;
  for (std::size_t row = 0; row < request["ids"].size(); ++row) {
    const auto tokens = request["ids"][row].get<std::vector<std::int64_t>>();
    const at::Tensor logits = reference.forward(at::tensor(tokens, at::kLong).unsqueeze(0))[0];
    ASSERT_EQ(scores["nll"][row].size(), tokens.size() - 1);
    for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
      const double expected = -at::log_softmax(logits[static_cast<std::int64_t>(t)], 0)[tokens[t + 1]].item<double>();
      EXPECT_NEAR(scores["nll"][row][t].get<double>(), expected, kSameTolerance);
    }
    const std::size_t last = std::min<std::size_t>(2, tokens.size());
    ASSERT_EQ(scores["last_logits"][row].size(), last);
    const auto final_logits = scores["last_logits"][row].back().get<std::vector<double>>();
    EXPECT_LT(test::largest_difference(at::tensor(final_logits, at::kDouble), logits[-1]), kSameTolerance);
    EXPECT_EQ(scores["greedy"][row].size(), 3);
    EXPECT_EQ(scores["greedy"][row][0], logits[-1].argmax().item<std::int64_t>());
  }
}

TEST_F(ModelCommands, ScoreWritesAFileAndDefaultsToNothingBesidesLikelihoods) {
  const auto ids = folder_->write("plain.json", R"({"ids": [[1, 2, 3], [4, 5]]})"),
             output = *folder_ / "new" / "scores.json";
  const auto result =
      run_program({"score", "--model", model(), "--ids", ids.string(), "--output", output.string(), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.json()["rows"], 2);
  const Json scores = read_json(output);
  EXPECT_EQ(scores["nll"][0].size(), 2);
  EXPECT_EQ(scores["last_logits"], Json({Json::array(), Json::array()}));
  EXPECT_EQ(scores["greedy"], Json({Json::array(), Json::array()}));
}

TEST_F(ModelCommands, EvaluateMatchesTheSumOverTokens) {
  const auto text = folder_->write("text.txt", kText);
  const auto output = *folder_ / "evaluation.json";
  const auto result = run_program(
      {"evaluate", "--model", model(), "--perplexity", text.string(), "--json", "--output", output.string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  const auto tokens =
      run_program({"tokenize", "--tokenizer", model(), "--special", "--json"}, Json({{"texts", {kText}}}).dump())
          .json()["ids"][0]
          .get<std::vector<std::int64_t>>();
  ASSERT_EQ(tokens.front(), 1);
  ASSERT_LE(tokens.size(), 64);
  const at::Tensor nll = token_nll(decoder(at::kFloat), at::tensor(tokens, at::kLong).unsqueeze(0));
  const double mean = nll.mean().item<double>();
  EXPECT_NEAR(report["mean_nll"].get<double>(), mean, kFloatTolerance);
  EXPECT_NEAR(report["perplexity"].get<double>(), std::exp(mean), kFloatTolerance * std::exp(mean));
  EXPECT_EQ(report["tokens"], tokens.size() - 1);
  const double bytes = static_cast<double>(std::string(kText).size());
  EXPECT_NEAR(report["bits_per_byte"].get<double>(), nll.sum().item<double>() / std::numbers::ln2 / bytes,
              kFloatTolerance);
  EXPECT_EQ(report["context"], 64);
  EXPECT_EQ(report["stride"], 64);
  EXPECT_EQ(report["file"], text.string());
  const Json written = read_json(output);
  ASSERT_EQ(written["nll"].size(), 1);
  EXPECT_EQ(written["nll"][0].size(), tokens.size() - 1);
  EXPECT_EQ(written["perplexity"], report["perplexity"]);
}

TEST_F(ModelCommands, EvaluateReadsDocumentsAndIds) {
  const auto text = folder_->write("documents.txt", "ab ab\n\n  ba<|end|>ab<|end|>abab");
  const std::vector<std::string> base = {"evaluate", "--model",  model(), "--json",      "--context",
                                         "8",        "--stride", "4",     "--perplexity"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), base.begin(), base.end());
    return run_program(more).json();
  };
  const Json documents = with({text.string(), "--separator", "<|end|>", "--normalize-whitespace"});
  EXPECT_EQ(documents["documents"], 3);
  EXPECT_EQ(documents["stride"], 4);
  EXPECT_EQ(with({text.string(), "--separator", "<|end|>", "--max-documents", "2"})["documents"], 2);
  const Json texts = {{"texts", {"ab ab\nba", "ab", "abab"}}};
  const auto rows = run_program({"tokenize", "--tokenizer", model(), "--special", "--json"}, texts.dump()).out;
  const Json ids = with({folder_->write("rows.json", rows).string()});
  EXPECT_EQ(ids["tokens"], documents["tokens"]);
  EXPECT_NEAR(ids["mean_nll"].get<double>(), documents["mean_nll"].get<double>(), kFloatTolerance);
  EXPECT_TRUE(ids["bits_per_byte"].is_null());
}

TEST_F(ModelCommands, GenerateIsGreedyByDefaultAndCountsItsCache) {
  const auto result = run_program({"generate", "--model", model(), "--prompt", "ab", "--new-tokens", "12", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  const Json prompt =
      run_program({"tokenize", "--tokenizer", model(), "--special", "--json"}, R"({"texts": ["ab"]})").json()["ids"];
  const auto ids = prompt[0].get<std::vector<std::int64_t>>();
  const at::Tensor greedy = greedy_continue(decoder(at::kFloat), at::tensor(ids, at::kLong).unsqueeze(0), 12)[0];
  ASSERT_LE(report["ids"].size(), 12);
  for (std::size_t i = 0; i < report["ids"].size(); ++i) {
    EXPECT_EQ(report["ids"][i], greedy[static_cast<std::int64_t>(i)].item<std::int64_t>());
  }
  const std::size_t cached = ids.size() + report["ids"].size();
  EXPECT_EQ(report["cached_tokens"], cached);
  EXPECT_EQ(report["cache_bytes"], cached * 64 * sizeof(float));
  EXPECT_THAT(report["text"].get<std::string>(), testing::StartsWith("ab"));
  EXPECT_GT(report["tokens_per_second"].get<double>(), 0);
}

TEST_F(ModelCommands, GenerateContinuesABatchAsSinglePrompts) {
  const auto one = [&](const std::string& prompt) {
    return run_program({"generate", "--model", model(), "--prompt", prompt, "--new-tokens", "9", "--repetition-penalty",
                        "1.2", "--json"})
        .json();
  };
  const auto result =
      run_program({"generate", "--model", model(), "--prompt", "ab", "--prompt", "a ba ab", "--new-tokens", "9",
                   "--repetition-penalty", "1.2", "--prefill-chunk", "2", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  ASSERT_EQ(report["sequences"].size(), 2);
  const Json first = one("ab"), second = one("a ba ab");
  for (const char* key : {"text", "ids", "prompt_tokens", "finish"}) {
    EXPECT_EQ(report["sequences"][0][key], first[key]) << key;
    EXPECT_EQ(report["sequences"][1][key], second[key]) << key;
  }
  EXPECT_EQ(report["cache_bytes"],
            first["cache_bytes"].get<std::int64_t>() + second["cache_bytes"].get<std::int64_t>());
  EXPECT_EQ(report["cache_bytes"], report["predicted_cache_bytes"]);
}

TEST_F(ModelCommands, GenerateEndsBeforeAStopString) {
  MLA_NEEDS_SHARED("data/weights/stories260K/stories260K.bin");
  const auto weights = test::shared_folder() / "data/weights/stories260K/stories260K.bin";
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(),
                {"generate", "--model", weights.string(), "--prompt", "Once upon a time", "--new-tokens", "60"});
    return run_program(more);
  };
  const std::string whole = with({"--json"}).json()["text"];
  const std::string stop = " was ", expected = whole.substr(0, whole.find(stop));
  ASSERT_LT(expected.size(), whole.size()) << whole;
  const Json report = with({"--stop", stop, "--stop", "never that", "--json"}).json();
  EXPECT_EQ(report["text"], expected);
  EXPECT_EQ(report["finish"], "stop_string");
  EXPECT_EQ(with({"--stop", stop, "--quiet"}).out, expected + "\n") << "what is shown as it comes";
  EXPECT_EQ(with({"--quiet"}).out, whole + "\n");
}

TEST_F(ModelCommands, GenerateRefusesWhatCannotBe) {
  const auto error = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"generate", "--model", model(), "--prompt", "ab"});
    const auto result = run_program(more);
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  EXPECT_THAT(error({"--new-tokens", "100"}), testing::HasSubstr("are more than the model's context of 64"));
  EXPECT_THAT(error({"--repetition-penalty", "0"}), testing::HasSubstr("repetition_penalty: 0 is not positive"));
  EXPECT_THAT(error({"--path", "absorb"}), testing::HasSubstr("--path: no 'absorb'; did you mean 'absorbed'?"));
  EXPECT_THAT(error({"--stop", ""}), testing::HasSubstr("--stop: is empty"));
}

TEST_F(ModelCommands, GenerateSamplesReproducibly) {
  const auto sampled = [&](const std::string& seed) {
    return run_program({"generate", "--model", model(), "--prompt", "", "--new-tokens", "16", "--temperature", "1",
                        "--top-p", "0.95", "--seed", seed, "--json"})
        .json()["ids"];
  };
  EXPECT_EQ(sampled("1"), sampled("1"));
  EXPECT_NE(sampled("1"), sampled("2"));
}

TEST_F(ModelCommands, GeneratePrintsOnlyTheTextOnStdout) {
  const auto result = run_program({"generate", "--model", model(), "--prompt", "ab", "--new-tokens", "2", "--quiet"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, testing::StartsWith("ab"));
}

class ConformanceScore : public testing::TestWithParam<std::string> {};

TEST_P(ConformanceScore, EqualsGolden) {
  const std::string name = "data/conformance/families/" + GetParam();
  MLA_NEEDS_SHARED(name);
  const std::filesystem::path folder = test::shared_folder() / name;
  const Json golden = read_json(folder / "golden.json");
  const test::TemporaryFolder work;
  const auto ids =
      work.write("ids.json", Json({{"ids", golden["input_ids"]}, {"last", 4}, {"greedy_tokens", 16}}).dump());
  const auto result = run_program({"score", "--model", folder.string(), "--ids", ids.string(), "--dtype", "float64"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json scores = result.json();
  EXPECT_EQ(scores["greedy"], golden["greedy_16"]);
  double nll = 0, logits = 0;
  for (std::size_t row = 0; row < golden["nll"].size(); ++row) {
    for (std::size_t t = 0; t < golden["nll"][row].size(); ++t) {
      nll = std::max(nll, std::abs(scores["nll"][row][t].get<double>() - golden["nll"][row][t].get<double>()));
    }
    for (std::size_t k = 0; k < 4; ++k) {
      for (std::size_t v = 0; v < golden["logits_last4"][row][k].size(); ++v) {
        logits = std::max(logits, std::abs(scores["last_logits"][row][k][v].get<double>() -
                                           golden["logits_last4"][row][k][v].get<double>()));
      }
    }
  }
  EXPECT_LT(nll, kGoldenTolerance);
  EXPECT_LT(logits, kGoldenTolerance);
}

INSTANTIATE_TEST_SUITE_P(Families, ConformanceScore,
                         testing::Values("llama-mha", "llama-gqa-tied", "llama-rope-llama3", "mistral-gqa", "qwen2-gqa",
                                         "qwen3-gqa", "llama-sharded", "llama-bf16"),
                         [](const auto& test) {
                           std::string label = test.param;
                           std::replace(label.begin(), label.end(), '-', '_');
                           return label;
                         });

}  // namespace
}  // namespace mla
