// Whole commands with --device fake: what they write is what they write with cpu.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/store/record.h"
#include "tests/devices/fake_device.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;

constexpr double kSameScore = 1e-4;  // of float32 models trained for five steps

class FakePrograms : public testing::Test {
 protected:
  void SetUp() override { test::write_tiny_inputs(folder_); }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  /// The record of a cell that is run on a device.
  RunRecord record_on(const std::string& device, const Json& changes) {
    Json config = test::tiny_experiment(changes);
    config["results"] = "@/results_" + device;
    config["device"] = device;
    const auto file = folder_.write_config(device + ".json", config.dump());
    const auto result = run_program({"run", file.string(), "--quiet"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto records = test::records_in(folder_ / ("results_" + device) / device);
    EXPECT_EQ(records.size(), 1u);
    return records.begin()->second;
  }
  test::TemporaryFolder folder_;
};

TEST_F(FakePrograms, ACellIsConvertedTrainedAndEvaluatedThere) {
  const Json changes = parse_json(R"({
    "train": {"steps": 5, "accumulation": 2, "loss": {"distillation": 0.5}},
    "save_model": "@/models",
    "cache": {"codec": {"name": "rtn", "bits": 8}, "context": 12, "prompt": 4},
    "evaluate": [{"task": "perplexity", "context": 32, "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}]})",
                                  "changes");
  const std::int64_t before = test::device_counts().operations;
  const RunRecord wanted = record_on("cpu", changes);
  EXPECT_EQ(test::device_counts().operations, before);
  const RunRecord found = record_on("fake", changes);
  EXPECT_GT(test::device_counts().operations, before + 1000);
  EXPECT_EQ(test::fake_device_bytes(), 0) << "nothing is left behind";
  ASSERT_EQ(found.training.loss.size(), wanted.training.loss.size());
  for (std::size_t i = 0; i < found.training.loss.size(); ++i)
    EXPECT_NEAR(found.training.loss[i], wanted.training.loss[i], kSameScore * wanted.training.loss[i]);
  ASSERT_EQ(found.evaluation.size(), wanted.evaluation.size());
  for (std::size_t i = 0; i < found.evaluation.size(); ++i) {
    EXPECT_EQ(found.evaluation[i].metric, wanted.evaluation[i].metric);
    EXPECT_NEAR(found.evaluation[i].value, wanted.evaluation[i].value,
                kSameScore * std::abs(wanted.evaluation[i].value))
        << wanted.evaluation[i].stage << " " << wanted.evaluation[i].metric;
  }
  ASSERT_EQ(found.cache.size(), wanted.cache.size());
  for (std::size_t i = 0; i < found.cache.size(); ++i)
    EXPECT_EQ(found.cache[i].counted_bytes, wanted.cache[i].counted_bytes);
}

TEST_F(FakePrograms, ConvertedGeneratedAndExported) {
  for (const std::string device : {"cpu", "fake"}) {
    const auto converted = run_program({"convert", "--model", at("model"), "--output", at("converted_" + device),
                                        "--rope", "high", "--pairs", "1", "--d-kv", "4", "--device", device});
    ASSERT_EQ(converted.exit_code, 0) << converted.err;
  }
  const auto text = [&](const std::string& model, const std::string& device) {
    const auto result = run_program(
        {"generate", "--model", at(model), "--prompt", "ab abc", "--new-tokens", "8", "--device", device, "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.json()["ids"];
  };
  const auto exported = run_program(
      {"export", "--model", at("converted_fake"), "--format", "transformers_code", "--output", at("exported")});
  EXPECT_EQ(exported.exit_code, 0) << exported.err;
  const Decoder here = load_checkpoint(at("converted_cpu"), {}).decoder,
                there = load_checkpoint(at("converted_fake"), {}).decoder;
  const at::NoGradGuard no_grad;
  const at::Tensor ids = test::random_ids(here.spec(), 1, 8);
  EXPECT_LT(test::largest_difference(there.forward(ids), here.forward(ids)), 1e-4);
  EXPECT_EQ(text("converted_cpu", "fake"), text("converted_cpu", "cpu"));
}

}  // namespace
}  // namespace mla
