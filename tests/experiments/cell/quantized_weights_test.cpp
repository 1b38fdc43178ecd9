// Weights as codes in cells and commands: planned, converted, saved, evaluated, counted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/checkpoint.h"
#include "core/store/record.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr const char* kConvertAndPack = R"("compress": [
    {"name": "mha2mla", "rope": {"name": "high", "pairs": 1}, "low_rank": {"name": "joint_svd", "d_kv": 4}},
    {"name": "quantize_weights", "codec": {"name": "rtn", "bits": 4, "group_size": 8}}])";

class QuantizedWeights : public testing::Test {
 protected:
  void SetUp() override { test::write_tiny_inputs(folder_); }

  std::filesystem::path experiment(const std::string& rest) const {
    return folder_.write_config("cell.json", R"({"model": {"path": "@/model"}, "results": "@/results",
      "save_model": "@/models", "evaluate": [{"task": "perplexity", "context": 32,
        "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}],)" +
                                                 rest + "}");
  }
  static Json json_of(const std::vector<std::string>& arguments) {
    const auto result = test::run_program(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.json();
  }

  test::TemporaryFolder folder_;
};

TEST_F(QuantizedWeights, AreConvertedInspectedEvaluatedAndGeneratedFrom) {
  const std::string out = (folder_ / "out").string();
  const auto config = folder_.write("convert.json", std::string("{") + kConvertAndPack + "}");
  const Json report = json_of({"convert", "--model", (folder_ / "model").string(), "--output", out, "--config",
                               config.string(), "--json", "--quiet"});
  EXPECT_EQ(report["passes"].size(), 2u);
  EXPECT_EQ(report["passes"][1]["pass"], "quantize_weights");
  const Json inspected = json_of({"inspect", out, "--json"});
  EXPECT_EQ(inspected["weight_storage"], Json({{"4-bit rtn codes", 2 * (6 + 3)}}));
  EXPECT_EQ(inspected["weights"]["predicted_bytes"], report["weight_bytes"]);
  EXPECT_EQ(inspected["weights"]["counted_bytes"], report["weight_bytes"]);
  EXPECT_LT(report["weight_bytes"].get<std::int64_t>(), 4 * report["parameters"].get<std::int64_t>());
  EXPECT_EQ(inspected["parameters"]["total"], report["parameters"]);
  // As it stands, and beside a quantized cache.
  const std::vector<std::string> evaluate = {
      "evaluate",  "--model", out,      "--perplexity", (folder_ / "text.txt").string(),
      "--context", "32",      "--json", "--quiet"};
  const Json plain = json_of(evaluate);
  EXPECT_GT(plain.dump().size(), 20u);
  std::vector<std::string> cached = evaluate;
  cached.insert(cached.end(), {"--cache", "rtn4"});
  EXPECT_GT(json_of(cached).dump().size(), 20u);
  EXPECT_FALSE(
      json_of({"generate", "--model", out, "--prompt", "ab", "--new-tokens", "4", "--json", "--quiet"})["ids"].empty());
  // Once converted, it is not converted again.
  const auto again = test::run_program(
      {"convert", "--model", out, "--output", (folder_ / "twice").string(), "--config", config.string(), "--quiet"});
  EXPECT_EQ(again.exit_code, 2);
}

TEST_F(QuantizedWeights, ACellCountsTheirBytesAndKeepsTheModel) {
  const auto result = test::run_program({"run", experiment(kConvertAndPack).string(), "--json", "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto records = test::records_in(folder_ / "results/cell");
  ASSERT_EQ(records.size(), 1u);
  const RunRecord& record = records.begin()->second;
  ASSERT_EQ(record.cache.size(), 2u);
  for (const CacheRecord& stage : record.cache) {
    ASSERT_TRUE(stage.counted_weight_bytes);
    EXPECT_EQ(stage.counted_weight_bytes, stage.predicted_weight_bytes);
  }
  const Decoder source = load_checkpoint(folder_ / "model").decoder;
  EXPECT_EQ(*record.cache[0].counted_weight_bytes, 4 * source.parameter_count());
  int models = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_ / "models")) {
    if (entry.path().filename() != "config.json") continue;
    ++models;
    const Decoder saved = load_checkpoint(entry.path().parent_path()).decoder;
    EXPECT_EQ(*record.cache[1].counted_weight_bytes, saved.weight_bytes());
    EXPECT_FALSE(model_storage(saved.spec()).empty());
  }
  EXPECT_EQ(models, 1);
}

TEST_F(QuantizedWeights, TrainingThemIsRefusedBeforeAnythingIsRead) {
  const auto refusal = [&](const std::string& rest) {
    const auto result = test::run_program({"check", experiment(rest).string(), "--quiet"});
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  const std::string data =
      R"("batch_rows": 2, "sequence_length": 16, "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}})";
  EXPECT_THAT(
      refusal(std::string(kConvertAndPack) + R"(, "train": {"steps": 2, )" + data + "}"),
      HasSubstr("train.trainable: 'all' matches model.layers.0.self_attn.q_proj.weight, which is held as 4-bit"));
  EXPECT_THAT(refusal(R"("compress": [{"name": "quantize_weights"}, {"name": "mha2mla"}])"),
              HasSubstr("this pass computes with dense matrices: let it come before quantize_weights"));
}

}  // namespace
}  // namespace mla
