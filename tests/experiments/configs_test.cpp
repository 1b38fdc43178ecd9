// Every shipped experiment resolves, constructs and fits its model.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "core/base/fields.h"
#include "experiments/plan.h"
#include "experiments/pretrain_config.h"
#include "tests/support/shared_data.h"

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
      EXPECT_LE(cell.compression ? cell.compression->cache_ratio() : 1, 1) << cell.name;
    }
    ++planned;
  }
  EXPECT_GE(planned, 5u);
}

TEST(Configs, TheDemoIsWellFormed) {
  const Json config = resolve_experiment(fs::path(MLA_SOURCE_DIR) / "configs/demo/mha2mla.json", {});
  Json options = config;
  for (const char* key : {"grid", "baseline"}) options.erase(key);
  ExperimentConfig read;
  read_fields(options, "", read);
  EXPECT_NO_THROW(read.validate());
  EXPECT_FALSE(config["grid"].empty());
}

TEST(Configs, ModelsTrainedFromNothingAreWellFormed) {
  const fs::path demo = fs::path(MLA_SOURCE_DIR) / "configs/demo";
  EXPECT_EQ(read_pretrain_config(demo / "pretrain.json", {}).train.sources("train").size(), 1u);
  const PretrainConfig mixture = read_pretrain_config(demo / "pretrain_mixture.json", {});
  EXPECT_EQ(mixture.train.sources("train").size(), 2u);
  EXPECT_EQ(mixture.train.document_boundaries, DocumentBoundaries::kMasked);
}

}  // namespace
}  // namespace mla
