// A GGUF source whose blocks are kept: in commands, in cells and under conversions; converted models at the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/checkpoint.h"
#include "core/model/model_config.h"
#include "core/store/record.h"
#include "tests/support/gguf_of_checkpoint.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kConvertToBlocks = R"("compress": [
    {"name": "mha2mla", "rope": {"name": "high", "pairs": 1}, "low_rank": {"name": "joint_svd", "d_kv": 4}},
    {"name": "quantize_weights", "blocks": "Q8_0", "maps": ["attention"]}])";

class PackedSource : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_inputs(folder_);
    folder_.write("model.gguf", test::gguf_of(load_checkpoint(folder_ / "model"), "Q8_0").bytes());
  }
  std::string gguf() const { return (folder_ / "model.gguf").string(); }

  std::filesystem::path experiment(const std::string& model, const std::string& rest,
                                   const std::string& results) const {
    return folder_.write_config("cell.json", R"({"model": {"path": "@/model.gguf", "tokenizer": "@/model")" + model +
                                                 R"(}, "results": "@/)" + results + R"(", "save_model": "@/models",
      "evaluate": [{"task": "perplexity", "context": 32,
        "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}])" +
                                                 rest + "}");
  }
  RunRecord record_of(const std::string& model, const std::string& rest, const std::string& results) const {
    const auto result = test::run_program({"run", experiment(model, rest, results).string(), "--json", "--quiet"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto records = test::records_in(folder_ / results / "cell");
    EXPECT_EQ(records.size(), 1u);
    return records.begin()->second;
  }

  test::TemporaryFolder folder_;
};

TEST_F(PackedSource, IsEvaluatedGeneratedFromAndInspected) {
  const auto perplexity = [&](const std::string& held) {
    const auto result = test::run_program({"evaluate", "--model", gguf(), "--tokenizer", (folder_ / "model").string(),
                                           "--weights", held, "--perplexity", (folder_ / "text.txt").string(),
                                           "--context", "32", "--json", "--quiet"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.json()["perplexity"].get<double>();
  };
  const double dense = perplexity("dense"), packed = perplexity("packed");
  EXPECT_NE(dense, packed);
  EXPECT_NEAR(packed / dense, 1, 0.05);
  const Json inspected = test::run_program({"inspect", gguf(), "--weights", "packed", "--json"}).json();
  EXPECT_EQ(inspected["weight_storage"], Json({{"Q8_0 blocks", 1 + 2 * 6}}));  // down_proj has no whole blocks
  EXPECT_EQ(inspected["weights"]["predicted_bytes"], inspected["weights"]["counted_bytes"]);
  const auto bench = test::run_program({"bench", "--model", gguf(), "--weights", "packed", "--context", "8",
                                        "--new-tokens", "4", "--repeats", "1", "--json", "--quiet"});
  EXPECT_EQ(bench.exit_code, 0) << bench.err;
  EXPECT_EQ(bench.json()["cells"][0]["weight_bytes"], inspected["weights"]["counted_bytes"]);
}

TEST_F(PackedSource, IsPartOfACellsIdentity) {
  const RunRecord dense = record_of("", "", "dense"), packed = record_of(R"(, "weights": "packed")", "", "packed");
  EXPECT_NE(dense.head.content_hash, packed.head.content_hash);
  EXPECT_EQ(packed.config["model"]["weights"], "packed");
  const auto spelled = record_of(R"(, "weights": "dense")", "", "spelled");
  EXPECT_EQ(spelled.head.content_hash, dense.head.content_hash);
}

TEST_F(PackedSource, IsConvertedWhereItChangesAndKeepsTheRest) {
  record_of(R"(, "weights": "packed")", std::string(", ") + kConvertToBlocks, "converted");
  int models = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_ / "models")) {
    if (entry.path().filename() != "config.json") continue;
    ++models;
    const Decoder saved = load_checkpoint(entry.path().parent_path()).decoder;
    const StorageMap held = model_storage(saved.spec());
    for (const char* name : {"model.embed_tokens", "model.layers.0.mlp.gate_proj", "model.layers.1.self_attn.o_proj",
                             "model.layers.1.self_attn.q_proj"}) {
      ASSERT_TRUE(held.contains(name)) << name;
      EXPECT_EQ(held.at(name).form->description(), "Q8_0 blocks");
    }
    EXPECT_EQ(saved.weight_bytes(), saved.predicted_weight_bytes());
  }
  EXPECT_EQ(models, 1);
}

TEST_F(PackedSource, WhatIsNotOfferedIsSaidInOneLine) {
  const auto refusal = [&](const std::vector<std::string>& arguments) {
    const auto result = test::run_program(arguments);
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  const std::string folder = (folder_ / "model").string();
  EXPECT_THAT(
      refusal({"generate", "--model", folder, "--weights", "packed", "--prompt", "ab", "--new-tokens", "4", "--quiet"}),
      AllOf(HasSubstr("weights = packed"), HasSubstr("is no GGUF file")));
  EXPECT_THAT(refusal({"generate", "--model", gguf(), "--weights", "pakced", "--prompt", "ab", "--quiet"}),
              AllOf(HasSubstr("--weights"), HasSubstr("packed")));
  EXPECT_THAT(refusal({"check", experiment(R"(, "weights": "small")", "", "r").string(), "--quiet"}),
              AllOf(HasSubstr("model.weights"), HasSubstr("packed")));
  const std::string train =
      R"(, "train": {"steps": 2, "batch_rows": 2, "sequence_length": 16, "data": {"files": ["@/text.txt"]}})";
  EXPECT_THAT(refusal({"check", experiment(R"(, "weights": "packed")", train, "r").string(), "--quiet"}),
              AllOf(HasSubstr("train.trainable"), HasSubstr("is held as Q8_0 blocks")));
  EXPECT_THAT(
      refusal({"check",
               experiment("", R"(, "compress": [{"name": "quantize_weights", "blocks": "Q4_K"}])", "r").string(),
               "--quiet"}),
      HasSubstr("compress[0].blocks = Q4_K: known: Q8_0, Q4_0, Q4_1"));
  EXPECT_THAT(refusal({"check",
                       experiment("",
                                  R"(, "compress": [{"name": "quantize_weights", "blocks": "Q4_1",
                                      "codec": {"name": "hqq"}}])",
                                  "r")
                           .string(),
                       "--quiet"}),
              HasSubstr("stands instead of `codec`"));
  EXPECT_THAT(refusal({"check",
                       experiment(R"(, "weights": "packed")",
                                  R"(, "compress": [{"name": "share_attention", "layers": [[0, 1]]}])", "r")
                           .string(),
                       "--quiet"}),
              HasSubstr("compress[0]"));
}

}  // namespace
}  // namespace mla
