// `mlaforge pack`, and training on what it makes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/text/token_shard.h"
#include "experiments/data/token_data.h"
#include "tests/support/run_program.h"

namespace mla {
namespace {

using test::ProgramResult;
using test::run_program;
using testing::HasSubstr;

class PackTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto toy = run({"toy", "--output", data("").string(), "--stories", "60", "--held-out", "20"});
    ASSERT_EQ(toy.exit_code, 0) << toy.err;
    config_ = parse_json(R"({
      "config": {"model_type": "llama", "vocab_size": 672, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
                 "num_attention_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": true},
      "train": {"steps": 8, "batch_rows": 4, "sequence_length": 32, "learning_rate": 1e-2}
    })",
                         "the test's config");
    config_["output"] = (folder_ / "model").string();
    config_["tokenizer"] = data("tokenizer.json").string();
  }

  std::filesystem::path data(const std::string& name) const { return folder_ / ("data/" + name); }

  static ProgramResult run(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--quiet", "--threads", "2", "--json"});
    return run_program(arguments);
  }

  ProgramResult pack(const std::string& name, std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments{"pack",
                                       "--tokenizer",
                                       data("tokenizer.json").string(),
                                       "--output",
                                       data(name + ".mlat").string(),
                                       "--separator",
                                       "<|endoftext|>",
                                       "--normalize-whitespace",
                                       data(name + ".txt").string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }

  Json files(const std::string& name) const {
    return {{"files", {data(name).string()}},
            {"documents", {{"separator", "<|endoftext|>"}, {"normalize_whitespace", true}}}};
  }

  ProgramResult pretrain(const Json& train) const {
    Json config = config_;
    config["train"].update(train);
    return run({"pretrain", folder_.write("pretrain.json", config.dump()).string()});
  }

  test::TemporaryFolder folder_;
  Json config_;
};

TEST_F(PackTest, ReportsWhatItWrote) {
  const ProgramResult result = pack("train");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  const TokenShard shard(data("train.mlat"));
  EXPECT_EQ(report["documents"], 60);
  EXPECT_EQ(report["tokens"], shard.tokens());
  EXPECT_EQ(report["bytes"], std::filesystem::file_size(data("train.txt")));
  EXPECT_EQ(report["shard_bytes"], std::filesystem::file_size(data("train.mlat")));
  EXPECT_EQ(report["bytes_per_token"], 2);
  EXPECT_GT(report["tokens_per_second"].get<double>(), 0);
}

TEST_F(PackTest, TrainingOnAShardIsTrainingOnItsText) {
  ASSERT_EQ(pack("train").exit_code, 0);
  for (const char* boundaries : {"kept", "masked"}) {
    const ProgramResult text = pretrain({{"data", files("train.txt")}, {"document_boundaries", boundaries}});
    const ProgramResult shard = pretrain({{"data", files("train.mlat")}, {"document_boundaries", boundaries}});
    ASSERT_EQ(text.exit_code, 0) << text.err;
    ASSERT_EQ(shard.exit_code, 0) << shard.err;
    EXPECT_EQ(text.json()["final_loss"], shard.json()["final_loss"]);
    EXPECT_EQ(text.json()["tokens"], shard.json()["tokens"]);
  }
  const ProgramResult text = pretrain({{"data", files("train.txt")}, {"packing", "rows"}});
  const ProgramResult shard = pretrain({{"data", files("train.mlat")}, {"packing", "rows"}});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(text.json()["final_loss"], shard.json()["final_loss"]) << shard.err;
}

TEST_F(PackTest, LargeTextIsReadFromAShardAsideAndSmallTextFromMemory) {
  DataOptions options;
  options.files = {data("train.txt").string(), data("held_out.txt").string()};
  options.documents.separator = "<|endoftext|>";
  options.eos = true;
  const auto tokenizer = load_tokenizer(data("tokenizer.json"));
  const auto temporary = folder_ / "temporary";
  std::filesystem::create_directories(temporary);
  ::setenv("TMPDIR", temporary.c_str(), 1);
  const auto large = open_tokens(options, *tokenizer, tokenizer->vocabulary_size(), 2, 0),
             small = open_tokens(options, *tokenizer, tokenizer->vocabulary_size(), 2);
  ::unsetenv("TMPDIR");
  EXPECT_TRUE(std::filesystem::is_empty(temporary));
  ASSERT_EQ(large->tokens(), small->tokens());
  ASSERT_EQ(large->documents(), small->documents());
  std::vector<std::int32_t> from_shard(static_cast<std::size_t>(small->tokens())), from_memory(from_shard.size());
  large->read(0, from_shard);
  small->read(0, from_memory);
  EXPECT_EQ(from_shard, from_memory);
  for (std::int64_t i = 0; i <= small->documents(); ++i) EXPECT_EQ(large->document_begin(i), small->document_begin(i));
}

TEST_F(PackTest, EosEndsDocumentsInTextAndShardsAlike) {
  ASSERT_EQ(pack("train", {"--eos"}).exit_code, 0);
  Json text = files("train.txt");
  text["eos"] = true;
  EXPECT_EQ(pretrain({{"data", text}}).json()["final_loss"],
            pretrain({{"data", files("train.mlat")}}).json()["final_loss"]);
}

TEST_F(PackTest, MaskedBoundariesScoreFewerTokens) {
  const auto tokens = [&](const char* boundaries) {
    return pretrain({{"data", files("train.txt")}, {"document_boundaries", boundaries}})
        .json()["tokens"]
        .get<std::int64_t>();
  };
  EXPECT_EQ(tokens("kept"), 8 * 4 * 32);
  EXPECT_LT(tokens("masked"), 8 * 4 * 32);
  EXPECT_GT(tokens("masked"), 8 * 4 * 32 * 9 / 10);
}

TEST_F(PackTest, MixturesTrainOnShardsBesideText) {
  ASSERT_EQ(pack("train").exit_code, 0);
  const Json mixture = {{{"weight", 0.7}, {"data", files("train.mlat")}},
                        {{"weight", 0.3}, {"data", files("held_out.txt")}}};
  const ProgramResult mixed = pretrain({{"mixture", mixture}});
  ASSERT_EQ(mixed.exit_code, 0) << mixed.err;
  EXPECT_EQ(pretrain({{"mixture", mixture}}).json()["final_loss"], mixed.json()["final_loss"]);
  EXPECT_NE(pretrain({{"data", files("train.mlat")}}).json()["final_loss"], mixed.json()["final_loss"]);
}

TEST_F(PackTest, RefusesConfigsThatMakeNoSense) {
  const Json one = {{{"weight", 1}, {"data", files("train.txt")}}};
  const auto message = [&](const Json& train) {
    const ProgramResult result = pretrain(train);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    return result.err;
  };
  EXPECT_THAT(message({{"mixture", one}, {"data", files("train.txt")}}),
              HasSubstr("train.mixture: give either this or train.data.files"));
  EXPECT_THAT(message({{"mixture", one}, {"packing", "rows"}}),
              HasSubstr("train.mixture: rows are those of one source"));
  EXPECT_THAT(message({{"mixture", {{{"weight", -1}, {"data", files("train.txt")}}}}}),
              HasSubstr("train.mixture[0].weight: -1 is not"));
  EXPECT_THAT(message({{"mixture", {{{"wieght", 1}}}}}),
              HasSubstr("train.mixture[0].wieght: unknown key; did you mean 'weight'"));
  EXPECT_THAT(message({{"mixture", {{{"weight", 1}}}}}),
              HasSubstr("train.mixture[0].data.files: name at least one file"));
  EXPECT_THAT(message({{"data", files("train.txt")}, {"packing", "rows"}, {"document_boundaries", "masked"}}),
              HasSubstr("train.document_boundaries = masked"));
  EXPECT_THAT(message({{"data", files("train.txt")}, {"document_boundaries", "cut"}}),
              HasSubstr("train.document_boundaries: no 'cut'"));
}

TEST_F(PackTest, RefusesAShardOfAnotherTokenizer) {
  std::string other = read_file(data("tokenizer.json"));
  other += "\n";
  folder_.write("other/tokenizer.json", other);
  ASSERT_EQ(pack("train").exit_code, 0);
  config_["tokenizer"] = (folder_ / "other/tokenizer.json").string();
  const ProgramResult result = pretrain({{"data", files("train.mlat")}});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("train.mlat: packed with another tokenizer"));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
}

TEST_F(PackTest, RefusesWhatItCannotPack) {
  const auto pack_into = [&](const std::string& output, const std::string& file) {
    return run({"pack", "--tokenizer", data("tokenizer.json").string(), "--output", output, file});
  };
  const ProgramResult name = pack_into(data("train.bin").string(), data("train.txt").string());
  EXPECT_EQ(name.exit_code, 2);
  EXPECT_THAT(name.err, HasSubstr("a shard's name ends in .mlat"));
  const ProgramResult missing = pack_into(data("x.mlat").string(), data("missing.txt").string());
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_THAT(missing.err, HasSubstr("missing.txt: cannot be read"));
  EXPECT_FALSE(std::filesystem::exists(data("x.mlat")));
  EXPECT_EQ(
      run({"pack", "--tokenizer", data("tokenizer.json").string(), "--output", data("x.mlat").string()}).exit_code, 2);
}

}  // namespace
}  // namespace mla
