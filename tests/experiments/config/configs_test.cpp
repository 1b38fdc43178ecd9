// Every shipped experiment resolves, constructs and fits its model.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <tuple>

#include "core/base/json.h"
#include "experiments/bench/bench_config.h"
#include "experiments/config/pretrain_config.h"
#include "experiments/plan/plan.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

TEST(Configs, ExperimentsOnRealModelsArePlanned) {
  MLA_NEEDS_SHARED("data/weights");
  ::setenv("MLA_SHARED", test::shared_folder().c_str(), 1);
  std::size_t planned = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(MLA_SOURCE_DIR) / "configs/experiments")) {
    SCOPED_TRACE(entry.path().filename().string());
    const ExperimentPlan plan = plan_experiment(entry.path(), {});
    EXPECT_GE(plan.cells.size(), 2u);
    for (const CellPlan& cell : plan.cells) {
      EXPECT_LE(cell.cache_ratio(), 1) << cell.name;
    }
    ++planned;
  }
  EXPECT_GE(planned, 5u);
}

TEST(Configs, NeighboursOnRealModelsArePlanned) {
  MLA_NEEDS_SHARED("data/weights");
  ::setenv("MLA_SHARED", test::shared_folder().c_str(), 1);
  for (const char* config : {"kv_heads", "lorc", "mfa", "mfa_kr", "mka", "saap", "shared_attention"}) {
    SCOPED_TRACE(config);
    const ExperimentPlan plan =
        plan_experiment(fs::path(MLA_SOURCE_DIR) / "configs/related" / (std::string(config) + ".json"), {});
    EXPECT_GE(plan.cells.size(), 6u);
    for (const CellPlan& cell : plan.cells) {
      // Feed-forward channels alone leave the cache as it is.
      const Json& heads = cell.options.compress[0].value("heads", Json());
      EXPECT_TRUE(cell.cache_ratio() < 1 || heads == 0) << cell.name;
    }
  }
}

TEST(Configs, ConversionsOfRealModelsArePlanned) {
  MLA_NEEDS_SHARED("data/weights");
  ::setenv("MLA_SHARED", test::shared_folder().c_str(), 1);
  std::size_t planned = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(MLA_SOURCE_DIR) / "configs/conversion")) {
    SCOPED_TRACE(entry.path().filename().string());
    if (entry.path().filename().string().find("smollm2") != std::string::npos)
      continue;  // its model is not in `shared`
    const ExperimentPlan plan = plan_experiment(entry.path(), {});
    EXPECT_GE(plan.cells.size(), 2u);
    for (const CellPlan& cell : plan.cells) {
      EXPECT_LT(cell.cache_ratio(), 1) << cell.name;
      if (cell.passes.empty() || !cell.options.compress[0].contains("cached")) continue;
      EXPECT_EQ(cell.options.compress[0]["cached"].get<std::int64_t>() * cell.passes[0].after.layer_count(),
                cached_elements(cell.passes[0].after))
          << cell.name;
    }
    ++planned;
  }
  EXPECT_GE(planned, 8u);
}

TEST(Configs, WeightsOfOneBitAndAdaptersArePlanned) {
  MLA_NEEDS_SHARED("data/weights");
  ::setenv("MLA_SHARED", test::shared_folder().c_str(), 1);
  const fs::path related = fs::path(MLA_SOURCE_DIR) / "configs/related";
  EXPECT_EQ(plan_experiment(related / "billm.json", {}).cells.size(), 10u);
  // Of one-bit weights only adapters beside them are trained.
  const ExperimentPlan healing = plan_experiment(related / "lora_healing.json", {});
  EXPECT_EQ(healing.cells.size(), 12u);
  EXPECT_EQ(healing.invalid.size(), 3u);
}

TEST(Configs, ThoseOnToyModelsArePlanned) {
  const fs::path configs = fs::path(MLA_SOURCE_DIR) / "configs";
  ::setenv("TOY_MODEL", (fs::path(MLA_SOURCE_DIR) / "data/toy_mha").c_str(), 1);
  for (const char* config :
       {"demo/ablation.json", "paper/toy_table1.json", "paper/toy_table3.json", "paper/toy_table5.json"}) {
    SCOPED_TRACE(config);
    EXPECT_GE(plan_experiment(configs / config, {}).cells.size(), 10u);
  }
  ::unsetenv("TOY_MODEL");
}

TEST(Configs, TheDemoComparesJointAndSplitAtEqualCache) {
  ::setenv("TOY_MODEL", (fs::path(MLA_SOURCE_DIR) / "data/toy_mha").c_str(), 1);
  const ExperimentPlan plan = plan_experiment(fs::path(MLA_SOURCE_DIR) / "configs/demo/ablation.json", {});
  ::unsetenv("TOY_MODEL");
  ASSERT_EQ(plan.cells.size(), 13u);  // the source fine-tuned, and 3 x 4
  for (const CellPlan& cell : plan.cells) {
    if (cell.passes.empty()) continue;
    const bool whole = cell.options.compress[0]["low_rank"]["name"] == "none";
    EXPECT_EQ(cell.cache_ratio(), whole ? 1 : 0.375) << cell.name;
  }
}

/// A model folder that holds nothing but a config.json: enough to plan with.
void write_geometry(const fs::path& folder, std::int64_t hidden, std::int64_t intermediate, std::int64_t layers,
                    std::int64_t heads, std::int64_t kv_heads, std::int64_t vocabulary, std::int64_t positions) {
  write_json(folder / "config.json", {{"architectures", {"LlamaForCausalLM"}},
                                      {"model_type", "llama"},
                                      {"hidden_size", hidden},
                                      {"intermediate_size", intermediate},
                                      {"num_hidden_layers", layers},
                                      {"num_attention_heads", heads},
                                      {"num_key_value_heads", kv_heads},
                                      {"vocab_size", vocabulary},
                                      {"max_position_embeddings", positions},
                                      {"rms_norm_eps", 1e-5},
                                      {"hidden_act", "silu"},
                                      {"tie_word_embeddings", vocabulary == 49152}});
}

TEST(Configs, ThePapersRecipesArePlannedFromAModelsConfigAlone) {
  const test::TemporaryFolder models;
  write_geometry(models / "135m", 576, 1536, 30, 9, 3, 49152, 2048);
  write_geometry(models / "360m", 960, 2560, 32, 15, 5, 49152, 2048);
  write_geometry(models / "1.7b", 2048, 8192, 24, 32, 32, 49152, 2048);
  write_geometry(models / "7b", 4096, 11008, 32, 32, 32, 32000, 4096);
  const double paper_ratios[] = {0.3125, 0.1875, 0.125};  // what Table 1 says is left of the cache
  for (const auto& [config, variable, folder] : {std::tuple{"smollm_135m", "SMOLLM_135M", "135m"},
                                                 {"smollm_360m", "SMOLLM_360M", "360m"},
                                                 {"smollm_1.7b", "SMOLLM_1_7B", "1.7b"},
                                                 {"llama2_7b", "LLAMA2_7B", "7b"}}) {
    SCOPED_TRACE(config);
    ::setenv(variable, (models / folder).c_str(), 1);
    const ExperimentPlan plan =
        plan_experiment(fs::path(MLA_SOURCE_DIR) / "configs/paper" / (std::string(config) + ".json"), {});
    ::unsetenv(variable);
    ASSERT_EQ(plan.cells.size(), 4u);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(plan.cells[i + 1].cache_ratio(), paper_ratios[i]);
  }
}

TEST(Configs, TheTablesOnASmallLanguageModelArePlanned) {
  const test::TemporaryFolder models;
  write_geometry(models / "smollm2", 576, 1536, 30, 9, 3, 49152, 8192);
  ConfigOverrides model;
  model.set = {"model.path=" + (models / "smollm2").string()};
  const fs::path configs = fs::path(MLA_SOURCE_DIR) / "configs";
  for (const auto& [config, cells] : {std::pair{"smollm2/zero_shot", 12u},
                                      {"smollm2/table1", 4u},
                                      {"smollm2/table3", 9u},
                                      {"smollm2/table5", 13u},
                                      {"smollm2/headline", 3u},
                                      {"conversion/mkla_smollm2", 6u},
                                      {"demo/smollm2", 1u}}) {
    SCOPED_TRACE(config);
    const ExperimentPlan plan = plan_experiment(configs / (std::string(config) + ".json"), model);
    EXPECT_EQ(plan.cells.size(), cells);
    for (const CellPlan& cell : plan.cells) EXPECT_LE(cell.cache_ratio(), 1) << cell.name;
  }
}

TEST(Configs, BenchmarksAreWellFormed) {
  std::size_t read = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(MLA_SOURCE_DIR) / "configs/bench")) {
    SCOPED_TRACE(entry.path().filename().string());
    const BenchConfig config = read_bench_config(entry.path(), {});
    EXPECT_NO_THROW(config.validate());
    EXPECT_GE(bench_cells(config).size() * config.models.size(), 6u);
    ++read;
  }
  EXPECT_GE(read, 4u);
  // Batches of 1 to 256 at 1024 new tokens, 512 to 2048 at batch 16.
  const auto cells = bench_cells(read_bench_config(fs::path(MLA_SOURCE_DIR) / "configs/bench/official.json", {}));
  EXPECT_EQ(cells.size(), 2u * 7u);
}

TEST(Configs, ModelsTrainedFromNothingAreWellFormed) {
  const fs::path toy = fs::path(MLA_SOURCE_DIR) / "configs/toy";
  EXPECT_EQ(read_pretrain_config(toy / "pretrain_gqa.json", {}).train.sources("train").size(), 1u);
  const ModelSpec mfa = read_pretrain_config(toy / "pretrain_mfa.json", {}).spec();
  EXPECT_EQ(mfa.attention(3).kind(), "mfa");
  EXPECT_EQ(4 * cached_elements(mfa), cached_elements(read_pretrain_config(toy / "pretrain_mha.json", {}).spec()) * 2);
  const PretrainConfig mixture = read_pretrain_config(toy / "pretrain_mixture.json", {});
  EXPECT_EQ(mixture.train.sources("train").size(), 2u);
  EXPECT_EQ(mixture.train.document_boundaries, DocumentBoundaries::kMasked);
}

}  // namespace
}  // namespace mla
