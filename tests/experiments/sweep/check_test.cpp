// `mlaforge check`: every file is there, and what an experiment costs is said before it runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using testing::HasSubstr;
using testing::Not;

class CheckCommand : public testing::Test {
 protected:
  CheckCommand() {
    test::write_tiny_inputs(folder_);
    config_ = folder_.write("c.json", Json{{"model", {{"path", (folder_ / "model").string()}}},
                                           {"results", (folder_ / "results").string()},
                                           {"calibration", data()},
                                           {"compress",
                                            {{{"name", "mha2mla"},
                                              {"rope", {{"name", "two_norm"}, {"pairs", 1}}},
                                              {"low_rank", {{"name", "joint_svd"}, {"d_kv", 2}}}}}},
                                           {"train", {{"steps", 3}, {"sequence_length", 16}, {"data", data()}}},
                                           {"evaluate", {{{"task", "perplexity"}, {"context", 16}, {"data", data()}}}},
                                           {"grid", {{"compress[0].low_rank.d_kv", {2, 4}}}}}
                                          .dump());
  }
  Json data() const {
    return {{"files", {(folder_ / "text.txt").string()}}, {"documents", {{"separator", "###"}}}, {"length", 16}};
  }
  test::ProgramResult check(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"check", config_.string()});
    return run_program(more);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path config_;
};

TEST_F(CheckCommand, SaysWhatAnExperimentCosts) {
  const auto result = check();
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const char* part : {"\nfiles: 4 can be read, ", "\ntime: about ", "\ndisk: about ", "\ncache at "})
    EXPECT_THAT(result.out, HasSubstr(part));
  const Json report = check({"--json"}).json(), cost = report["cost"];
  EXPECT_EQ(report["files"]["count"], 4);  // config.json, tokenizer.json, model.safetensors, text.txt
  EXPECT_GT(cost["seconds"].get<double>(), 0);
  EXPECT_GT(cost["disk_bytes"]["records"].get<double>(), 0);
  EXPECT_GT(cost["disk_bytes"]["training_state"].get<double>(), 0);
  EXPECT_EQ(cost["disk_bytes"]["models"], 0.0);
  const double tokens = cost["cache_bytes"]["tokens"].get<double>();
  EXPECT_EQ(cost["cache_bytes"]["least"].get<double>(),
            report["cells"][0]["cached_bytes_per_token_bfloat16"].get<double>() * tokens);
  EXPECT_EQ(cost["cache_bytes"]["most"].get<double>(),
            report["cells"][1]["cached_bytes_per_token_bfloat16"].get<double>() * tokens);
  EXPECT_GT(check({"--set", "save_model=m", "--json"}).json()["cost"]["disk_bytes"]["models"].get<double>(), 0);
}

TEST_F(CheckCommand, MoreWorkCostsMore) {
  const auto seconds = [&](const std::string& change) {
    return check({"--set", change, "--json"}).json()["cost"]["seconds"].get<double>();
  };
  EXPECT_GT(seconds("train.steps=30000"), 100 * seconds("train.steps=3"));
}

TEST_F(CheckCommand, FittedLayersCostWhatTheyAreTrainedOn) {
  const auto seconds = [&](int steps) {
    const std::string fitted = cat(R"(compress=[{"name": "mkla", "cached": 8, "fit": {"steps": )", steps, "}}]");
    return check({"--set", fitted, "--set", "train=null", "--set", "grid={}", "--json"})
        .json()["cost"]["seconds"]
        .get<double>();
  };
  EXPECT_GT(seconds(20000), 20 * seconds(20));
}

TEST_F(CheckCommand, MissingFilesAreNamedAllTogether) {
  const auto result =
      check({"--set", "calibration.files=[\"/no/a.txt\"]", "--set", "train.data.files=[\"/no/b.txt\"]"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.err,
            "mlaforge check: /no/a.txt: cannot be read: No such file or directory; /no/b.txt: cannot be read: No such "
            "file or directory\n");
  EXPECT_THAT(check({"--set", cat("calibration.files=[\"", folder_.path().string(), "\"]")}).err,
              HasSubstr(": is a folder; a file is wanted"));
  EXPECT_THAT(check({"--set", cat("calibration.files=[\"", folder_.write("empty.txt", "").string(), "\"]")}).err,
              HasSubstr("empty.txt: is empty"));
  std::filesystem::remove(folder_ / "model/model.safetensors");
  EXPECT_THAT(check().err, HasSubstr("model.safetensors: cannot be read"));
}

TEST_F(CheckCommand, ShardsThatAnIndexNamesAreLookedFor) {
  std::filesystem::rename(folder_ / "model/model.safetensors", folder_ / "model/model-1.safetensors");
  folder_.write("model/model.safetensors.index.json",
                R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})");
  const auto result = check();
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("model-2.safetensors: cannot be read: No such file"));
}

TEST_F(CheckCommand, WithoutAnEstimateNoTextIsTokenized) {
  folder_.write("text.txt", std::string("\0\1\2\3", 4) + std::string(5000, '\xff'));  // no text
  const auto quick = check({"--no-estimate"});
  EXPECT_EQ(quick.exit_code, 0) << quick.err;
  EXPECT_THAT(quick.out, Not(HasSubstr("time: about")));
  EXPECT_EQ(check().exit_code, 3);
}

}  // namespace
}  // namespace mla
