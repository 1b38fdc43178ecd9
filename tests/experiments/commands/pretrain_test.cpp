#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/checkpoint.h"
#include "core/store/record.h"
#include "core/text/tokenizer.h"
#include "experiments/cell/training_state_file.h"
#include "experiments/cli/command_line.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

struct Outcome {
  ExitCode code;
  std::string out, err;
};

Outcome run(std::vector<std::string> arguments) {
  std::istringstream in;
  std::ostringstream out, err;
  arguments.insert(arguments.end(), {"--quiet", "--threads", "1"});
  const ExitCode code = run_main(arguments, {in, out, err});
  return {code, out.str(), err.str()};
}

/// Toy stories and a config for a model that trains on them in a second.
class PretrainTest : public testing::Test {
 protected:
  void SetUp() override {
    const Outcome toy = run({"toy", "--output", data().string(), "--stories", "60", "--held-out", "3"});
    ASSERT_EQ(toy.code, ExitCode::kDone) << toy.err;
    config_ = parse_json(R"({
      "config": {"model_type": "llama", "vocab_size": 672, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
                 "num_attention_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": true},
      "train": {"steps": 25, "batch_rows": 4, "sequence_length": 32, "learning_rate": 1e-2,
                "data": {"documents": {"separator": "<|endoftext|>", "normalize_whitespace": true}}}
    })",
                         "the test's config");
    config_["output"] = model().string();
    config_["tokenizer"] = (data() / "tokenizer.json").string();
    config_["train"]["data"]["files"] = {(data() / "train.txt").string()};
  }

  std::filesystem::path data() const { return folder_ / "data"; }
  std::filesystem::path model() const { return folder_ / "model"; }

  Outcome pretrain(std::vector<std::string> options = {}) {
    options.insert(options.begin(), {"pretrain", folder_.write("pretrain.json", config_.dump()).string(), "--json"});
    return run(options);
  }

  test::TemporaryFolder folder_;
  Json config_;
};

TEST_F(PretrainTest, LowersTheLossAndWritesAModelThatLoads) {
  const Outcome outcome = pretrain();
  ASSERT_EQ(outcome.code, ExitCode::kDone) << outcome.err;
  const Json report = parse_json(outcome.out, "stdout");
  EXPECT_EQ(report["status"], "complete");
  EXPECT_EQ(report["steps"], 25);
  EXPECT_EQ(report["tokens"], 25 * 4 * 32);
  EXPECT_NEAR(report["first_loss"].get<double>(), std::log(672.0), 0.1);
  EXPECT_LT(report["final_loss"].get<double>(), 0.75 * report["first_loss"].get<double>());
  EXPECT_GT(report["tokens_per_second"].get<double>(), 0);

  const RunRecord record = read_record(model() / "training.h5");
  EXPECT_EQ(record.training.loss.size(), 25u);
  EXPECT_EQ(record.training.loss.front(), report["first_loss"].get<double>());
  EXPECT_EQ(record.training.tokens.back(), report["tokens"].get<std::int64_t>());
  EXPECT_EQ(record.config["train"]["steps"], 25);

  Checkpoint loaded = load_checkpoint(model());
  EXPECT_EQ(loaded.decoder.parameter_count(), report["parameters"].get<std::int64_t>());
  const auto tokenizer = load_tokenizer(model());
  ASSERT_TRUE(tokenizer->bos() && tokenizer->eos());
  EXPECT_EQ(loaded.decoder.spec().bos, *tokenizer->bos());
  EXPECT_EQ(loaded.decoder.spec().eos, *tokenizer->eos());
}

TEST_F(PretrainTest, BeginsWithTheAveragedHeadsOfAnotherModel) {
  ASSERT_EQ(pretrain().code, ExitCode::kDone);
  config_["from"] = model().string();
  config_["output"] = (folder_ / "sibling").string();
  config_["config"]["num_key_value_heads"] = 1;
  const Outcome outcome = pretrain();
  ASSERT_EQ(outcome.code, ExitCode::kDone) << outcome.err;
  EXPECT_LT(parse_json(outcome.out, "stdout")["first_loss"].get<double>(), 0.8 * std::log(672.0));
  EXPECT_EQ(load_checkpoint(folder_ / "sibling").decoder.spec().attention(0).heads()->kv_heads, 1);
  EXPECT_TRUE(read_record(folder_ / "sibling/training.h5").provenance.data_hashes.contains("from/model.safetensors"));

  config_["config"]["hidden_size"] = 32;
  const Outcome refused = pretrain();
  EXPECT_EQ(refused.code, ExitCode::kConfig);
  EXPECT_THAT(refused.err, testing::HasSubstr("hidden_size = 32: the model to begin from has 16"));
}

/// Attention of another kind from nothing: what it is made of is as in `config` where it does not say otherwise.
TEST_F(PretrainTest, TrainsOtherKindsOfAttention) {
  config_["config"]["num_hidden_layers"] = 2;
  config_["config"]["num_key_value_heads"] = 1;
  for (const bool reuse : {false, true}) {
    config_["attention"] = {{"name", "mfa"}, {"query_rank", 8}, {"query_norm", true}, {"key_reuse", reuse}};
    config_["output"] = (folder_ / (reuse ? "mfa_kr" : "mfa")).string();
    const Outcome outcome = pretrain({"--set", "train.steps=40"});
    ASSERT_EQ(outcome.code, ExitCode::kDone) << outcome.err;
    const Json report = parse_json(outcome.out, "stdout");
    EXPECT_NEAR(report["first_loss"].get<double>(), std::log(672.0), 0.1);
    EXPECT_LT(report["final_loss"].get<double>(), 0.75 * report["first_loss"].get<double>());
    Checkpoint loaded = load_checkpoint(config_["output"].get<std::string>());
    EXPECT_EQ(loaded.decoder.parameter_count(), report["parameters"].get<std::int64_t>());
    EXPECT_EQ(cached_elements(loaded.decoder.spec()), 2 * (reuse ? 8 : 16));
    bool gate_has_moved = !reuse;
    loaded.decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
      if (name.ends_with("v_gate.bias")) gate_has_moved = gate_has_moved || tensor.abs().max().item<double>() > 0;
    });
    EXPECT_TRUE(gate_has_moved);
  }
}

TEST_F(PretrainTest, IsReproducible) {
  const Json first = parse_json(pretrain().out, "stdout"), second = parse_json(pretrain().out, "stdout");
  const Json other = parse_json(pretrain({"--set", "seed=1"}).out, "stdout");
  EXPECT_EQ(first["final_loss"], second["final_loss"]);
  EXPECT_NE(first["final_loss"], other["final_loss"]);
}

TEST_F(PretrainTest, RefusesTextWithIdsBeyondTheVocabulary) {
  const Outcome outcome = pretrain({"--set", "config.vocab_size=300"});
  EXPECT_EQ(outcome.code, ExitCode::kData);
  EXPECT_THAT(outcome.err, HasSubstr("embeddings for the ids 0 to 299"));
  EXPECT_FALSE(std::filesystem::exists(model()));
}

TEST_F(PretrainTest, RefusesConfigsThatCannotTrain) {
  const auto message = [&](const std::string& assignment) {
    const Outcome outcome = pretrain({"--set", assignment});
    EXPECT_EQ(outcome.code, ExitCode::kConfig) << assignment;
    EXPECT_FALSE(std::filesystem::exists(model())) << assignment;
    return outcome.err;
  };
  EXPECT_THAT(message("output="), HasSubstr("output: name a folder"));
  EXPECT_THAT(message("train.sequence_length=65"), HasSubstr("max_position_embeddings = 64"));
  EXPECT_THAT(message("train.packing=rows"), HasSubstr("max_position_embeddings = 64"));
  EXPECT_THAT(message("config.num_attention_heads=3"), HasSubstr("config: hidden_size = 16"));
  EXPECT_THAT(message("config.initializer_range=-1"), HasSubstr("config.initializer_range = -1"));
  EXPECT_THAT(message("train.packing=loose"), HasSubstr("train.packing"));
  EXPECT_THAT(message("trian.steps=1"), HasSubstr("did you mean 'train'"));
  EXPECT_THAT(message("attention=mfa"), HasSubstr("attention: expected an object with the name"));
  EXPECT_THAT(message(R"(attention={"name": "mfx"})"), HasSubstr("attention.name: no 'mfx'; did you mean 'mfa'"));
  EXPECT_THAT(message(R"(attention={"name": "mfa", "key_width": 6})"), HasSubstr("attention: layer[0].key_width = 6"));
  config_["attention"] = {{"name", "mfa"}};
  EXPECT_THAT(message("from=elsewhere"), HasSubstr("from: a model of another kind of attention"));
}

TEST_F(PretrainTest, WritesNoModelWhenItDiverges) {
  const Outcome outcome = pretrain({"--set", "train.learning_rate=1e6", "--set", "train.gradient_clip=0"});
  EXPECT_EQ(outcome.code, ExitCode::kCellsFailed);
  EXPECT_EQ(parse_json(outcome.out, "stdout")["status"], "diverged");
  EXPECT_FALSE(std::filesystem::exists(model() / "config.json"));
}

TEST(ToyCommand, WritesTheSameFilesForTheSameSeed) {
  const test::TemporaryFolder folder;
  for (const auto& [name, seed] : {std::pair{"a", "1"}, {"b", "1"}, {"c", "2"}}) {
    ASSERT_EQ(
        run({"toy", "--output", (folder / name).string(), "--seed", seed, "--stories", "5", "--held-out", "2"}).code,
        ExitCode::kDone);
  }
  const auto text = [&](const std::string& name) { return read_file(folder / name); };
  EXPECT_EQ(text("a/train.txt"), text("b/train.txt"));
  EXPECT_EQ(text("a/held_out.txt"), text("b/held_out.txt"));
  EXPECT_NE(text("a/train.txt"), text("c/train.txt"));
  EXPECT_EQ(text("a/tokenizer.json"), text("c/tokenizer.json"));
  const std::string held_out = text("a/held_out.txt");
  EXPECT_EQ(text("a/train.txt").find(held_out.substr(0, held_out.find("<|end|>"))), std::string::npos);
}

// A disk that fills up when all is trained, played by a folder in the way: only the writing is done again.
TEST_F(PretrainTest, TrainingOutlivesAModelThatCannotBeWritten) {
  ASSERT_EQ(pretrain().code, ExitCode::kDone);
  const std::vector<double> undisturbed = read_record(model() / "training.h5").training.loss;
  std::filesystem::remove_all(model());
  folder_.write("model/model.safetensors/in_the_way", "");
  const Outcome failed = pretrain();
  EXPECT_EQ(failed.code, ExitCode::kData);
  EXPECT_THAT(failed.err, HasSubstr("model.safetensors: cannot be written"));
  ASSERT_TRUE(std::filesystem::exists(model() / ".cells"));
  for (const auto& cell : std::filesystem::directory_iterator(model() / ".cells")) {
    EXPECT_EQ(read_training_state(cell.path() / "training.safetensors").report.step.back(), 24);
  }
  std::filesystem::remove_all(model() / "model.safetensors");
  ASSERT_EQ(pretrain().code, ExitCode::kDone);
  EXPECT_EQ(read_record(model() / "training.h5").training.loss, undisturbed);
  EXPECT_FALSE(std::filesystem::exists(model() / ".cells"));
}

}  // namespace
}  // namespace mla
