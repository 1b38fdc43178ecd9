// A GGUF file as the model of commands and experiments: nothing else lies beside it.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/family.h"
#include "tests/support/gguf_models.h"
#include "tests/support/gguf_of_checkpoint.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::run_program;
using testing::HasSubstr;

class GgufCommands : public testing::Test {
 protected:
  void SetUp() override {
    ModelSpec spec = test::tiny_spec("gqa");
    spec.vocabulary = 265;
    test::GgufBytes file = test::gguf_of({test::tiny_decoder(spec, at::kFloat), make_config(spec), {}});
    model_ = folder_.write("models/tiny.gguf", test::add_tiny_pieces(file).bytes()).string();
    std::string text;
    for (int i = 0; i < 60; ++i) text += "ab abc ab cab ba\nabc ab\n###";
    text_ = folder_.write("text.txt", text).string();
  }

  test::TemporaryFolder folder_;
  std::string model_, text_;
};

TEST_F(GgufCommands, InspectTellsItsTypesAndKeys) {
  const auto result = run_program({"inspect", model_, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.json()["weights_dtype"], "F32 (20)");
  EXPECT_EQ(result.json()["ignored_config_keys"].count("tokenizer.ggml.model"), 1u);
  EXPECT_THAT(run_program({"inspect", model_}).out, HasSubstr("key of the metadata"));
}

TEST_F(GgufCommands, EvaluateGenerateAndConvertGoOnWithWhatTheyWrite) {
  const auto evaluated = [&](const std::string& model) {
    const auto result =
        run_program({"evaluate", "--model", model, "--perplexity", text_, "--context", "32", "--json", "--quiet"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.json()["perplexity"].get<double>();
  };
  const auto generated = run_program({"generate", "--model", model_, "--prompt", "ab", "--new-tokens", "3", "--quiet"});
  EXPECT_EQ(generated.exit_code, 0) << generated.err;
  const std::string whole = (folder_ / "whole").string(), latent = (folder_ / "latent").string();
  for (const auto& [output, pairs] : {std::pair{whole, "4"}, {latent, "1"}}) {
    const auto converted = run_program({"convert", "--model", model_, "--output", output, "--rope", "high", "--pairs",
                                        pairs, "--low-rank", "none", "--quiet"});
    ASSERT_EQ(converted.exit_code, 0) << converted.err;
  }
  EXPECT_NEAR(evaluated(whole), evaluated(model_), 1e-3);
  EXPECT_NE(evaluated(latent), evaluated(model_));
  const auto tokenized = [&](const std::string& tokenizer) {
    const auto result = run_program({"tokenize", "--tokenizer", tokenizer, "--special"}, "ab a\n");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  EXPECT_EQ(tokenized(model_), "1 261 259\n");
  EXPECT_EQ(tokenized(whole), tokenized(model_));
}

TEST_F(GgufCommands, AnExperimentKnowsTheFileByItsContent) {
  const auto config = folder_.write_config("tiny.json", R"({
      "model": {"path": "@/models/tiny.gguf"}, "results": "@/results",
      "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                    "low_rank": {"name": "joint_svd", "d_kv": 3}}],
      "evaluate": [{"task": "perplexity", "context": 32, "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}]})");
  const std::vector<std::string> command = {"run", config.string(), "--json", "--quiet"};
  const auto first = run_program(command);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const std::string record = first.json()["cells"][0]["record"];
  const auto written = std::filesystem::last_write_time(record);
  std::filesystem::rename(model_, folder_ / "models/moved.gguf");
  const auto moved = run_program(
      {"run", config.string(), "--json", "--quiet", "--set", "model.path=" + (folder_ / "models/moved.gguf").string()});
  ASSERT_EQ(moved.exit_code, 0) << moved.err;
  EXPECT_EQ(std::filesystem::last_write_time(record), written) << "the same model elsewhere is the same cell";
}

TEST_F(GgufCommands, DamageIsOneLineAndExitCode3) {
  const auto path = folder_.write("bad.gguf", read_file(model_).substr(0, 5000));
  for (const auto& command : {std::vector<std::string>{"inspect", path.string()},
                              {"evaluate", "--model", path.string(), "--perplexity", text_}}) {
    const auto result = run_program(command);
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_THAT(result.err, HasSubstr("bad.gguf: "));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

}  // namespace
}  // namespace mla
