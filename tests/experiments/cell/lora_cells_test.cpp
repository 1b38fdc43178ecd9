// Cells that heal with adapters: what is saved, told and refused, and what is left of one that is killed.
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

using std::filesystem::path;
using test::run_program;
using test::run_script;
using testing::HasSubstr;
using testing::Not;

class LoraCells : public testing::Test {
 protected:
  void SetUp() override { test::write_tiny_inputs(folder_); }

  path config(const std::string& name, const std::string& compress, const std::string& lora,
              const std::string& more = "") const {
    const std::string data = R"({"files": ["@/text.txt"], "documents": {"separator": "###"}})";
    return folder_.write_config(
        name + ".json",
        R"({"model": {"path": "@/model"}, "results": "@/results/)" + name + R"(", "save_model": "@/models/)" + name +
            R"(", "checkpoint_seconds": 0, "calibration": {"files": ["@/text.txt"]}, "compress": )" + compress +
            R"(, "train": {"steps": 6, "batch_rows": 2, "sequence_length": 16, "learning_rate": 0.01,)" + lora +
            R"( "data": )" + data + R"(}, "evaluate": [{"task": "perplexity", "context": 32, "data": )" + data + "}]" +
            more + "}");
  }
  RunRecord record_of(const path& file) const {
    const auto records = test::records_in(folder_ / "results" / file.stem() / file.stem());
    EXPECT_EQ(records.size(), 1u);
    return records.begin()->second;
  }
  Decoder model_of(const path& file) const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_ / "models" / file.stem())) {
      if (entry.path().filename() == "config.json") return load_checkpoint(entry.path().parent_path()).decoder;
    }
    throw std::logic_error("no model");
  }

  test::TemporaryFolder folder_;
};

constexpr const char* kOneBit = R"([{"name": "billm", "block": 8}])";

TEST_F(LoraCells, MergedOnesLeaveADenseModelAndBesideOnesTheirCodes) {
  const path merged = config("merged", "[]", R"("lora": {"rank": 2},)"),
             beside = config("beside", kOneBit, R"("lora": {"rank": 2, "save": "beside"},)");
  for (const path& file : {merged, beside}) {
    const auto result = run_program({"run", file.string()});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const RunRecord record = record_of(file);
    EXPECT_EQ(record.training.step.size(), 6u);
    EXPECT_EQ(*record.cache.back().counted_weight_bytes, model_of(file).weight_bytes());
  }
  EXPECT_TRUE(model_storage(model_of(merged).spec()).empty());
  const RunRecord record = record_of(beside);
  // Two factors of rank 2 in float32 more than the one-bit weights have.
  EXPECT_GT(*record.cache[2].counted_weight_bytes, *record.cache[1].counted_weight_bytes);
  EXPECT_LT(*record.cache[1].counted_weight_bytes, *record.cache[0].counted_weight_bytes);
  // What was saved is what was measured.
  const auto model = (folder_ / "models/beside").string();
  const std::string saved = test::run_script("find " + model + " -name adapter_config.json").out;
  EXPECT_THAT(saved, HasSubstr("adapter/adapter_config.json"));
}

// Killed without warning after some steps, and started again.
TEST_F(LoraCells, AKilledRunGoesOnToTheSameRecord) {
  const path file = config("killed", kOneBit, R"("lora": {"rank": 2, "save": "beside"},)"),
             undisturbed = config("undisturbed", kOneBit, R"("lora": {"rank": 2, "save": "beside"},)");
  ASSERT_EQ(run_program({"run", undisturbed.string(), "--quiet", "--set", "train.steps=400"}).exit_code, 0);
  const std::string command = "mlaforge run " + file.string() + " --set train.steps=400 ";
  const std::string state = (folder_ / "results/killed/.cells").string() + "/*/training.safetensors";
  run_script(command + "--quiet & for i in $(seq 600); do ls " + state +
             " > /dev/null 2>&1 && break; sleep 0.02; done; kill -KILL $!; wait $!");
  const auto again = run_script(command);
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("fine-tune: goes on after "));
  const RunRecord one = record_of(file), other = record_of(undisturbed);
  EXPECT_EQ(one.training, other.training);
  EXPECT_EQ(one.evaluation, other.evaluation);
  EXPECT_EQ(one.cache, other.cache);
}

TEST_F(LoraCells, WhatMakesNoSenseIsRefusedBeforeLaunch) {
  const auto refusal = [&](const std::string& compress, const std::string& lora, const std::string& more = "") {
    const auto result = run_program({"run", config("refused", compress, lora, more).string(), "--quiet"});
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  EXPECT_THAT(
      refusal(kOneBit, R"("lora": {"rank": 2},)"),
      HasSubstr("train.lora.save = merged: model.layers.0.self_attn.q_proj is held as one-bit weights in blocks "
                "of 8, into which adapters are not merged; keep them beside, or name other maps"));
  EXPECT_THAT(refusal("[]", R"("lora": {"rank": 0},)"), HasSubstr("train.lora.rank = 0: must be at least 1"));
  EXPECT_THAT(refusal("[]", R"("lora": {"maps": "q_prj"},)"), HasSubstr("matches no linear map of a layer"));
  const std::string data = R"("batch_rows": 2, "sequence_length": 16, "data": {"files": ["@/text.txt"]})";
  const path stages = folder_.write_config("stages.json", R"({"model": {"path": "@/model"}, "results": "@/results",
    "stages": [{"train": {"steps": 2, "lora": {"save": "beside"}, )" +
                                                              data + R"(}}, {"train": {"steps": 2, )" + data + "}}]}");
  EXPECT_THAT(run_program({"run", stages.string()}).err,
              HasSubstr("stages[0].train.lora.save = beside: stages come after it; merged serves them"));
  const path pretraining = folder_.write_config("pretrain.json", R"({"output": "@/out", "tokenizer": "@/model",
    "config": {"model_type": "llama"}, "train": {"lora": {}, )" + data +
                                                                     "}}");
  EXPECT_THAT(run_program({"pretrain", pretraining.string()}).err,
              HasSubstr("train.lora: pretraining trains all weights"));
}

}  // namespace
}  // namespace mla
