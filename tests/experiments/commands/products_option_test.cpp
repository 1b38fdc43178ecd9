// --products and "products": the same option of every command that computes with a model, what it refuses, and what
// records say of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/ops/products.h"
#include "core/store/record.h"
#include "experiments/cell/identity.h"
#include "experiments/plan/plan.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using test::run_program;
using testing::HasSubstr;

class ProductsOption : public testing::Test {
 protected:
  void SetUp() override { test::write_tiny_inputs(folder_); }
  fs::path write(const std::string& more, const char* name = "e.json") const {
    return folder_.write_config(name, cat(R"({"results": "@/results", "model": {"path": "@/model"},
        "evaluate": [{"task": "perplexity", "context": 32, "data": {"files": ["@/text.txt"]}}])",
                                          more, "}"));
  }
  static std::string hash(const fs::path& config, const ConfigOverrides& overrides = {}) {
    const ExperimentPlan plan = plan_experiment(config, overrides);
    Session session(plan.cells);
    return identify(plan.cells.front(), session).hash;
  }

  test::TemporaryFolder folder_;
};

TEST_F(ProductsOption, EveryCommandThatComputesTakesIt) {
  for (const char* name : {"attribute", "bench", "conformance", "convert", "distance", "evaluate", "generate",
                           "pretrain", "recall", "run", "score", "slurm"}) {
    EXPECT_THAT(run_program({name, "--help"}).out, HasSubstr("--products TYPE")) << name;
  }
}

TEST_F(ProductsOption, AnUnknownNameIsRefusedBeforeAnyWork) {
  const std::string model = (folder_ / "model").string(), config = write("").string();
  for (std::vector<std::string> arguments : std::vector<std::vector<std::string>>{
           {"evaluate", "--model", model, "--perplexity", (folder_ / "text.txt").string()},
           {"generate", "--model", model, "--prompt", "ab"},
           {"convert", "--model", model, "--output", "/no/folder", "--rope", "high", "--d-kv", "4"},
           {"bench", "--model", model},
           {"pretrain", "/no/file"},
           {"run", config},
           {"check", config},
           {"slurm", config, "--dry-run"}}) {
    const std::string who = "mlaforge " + arguments.front();
    arguments.insert(arguments.end(), {"--products", "tf32"});
    const auto result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 2) << who;
    EXPECT_EQ(result.err, who + ": --products: no 'tf32'; known: float32, bfloat16, auto\n");
  }
  EXPECT_THAT(run_program({"check", write(R"(, "products": "float64")").string()}).err,
              HasSubstr("e.json: products: no 'float64'; did you mean 'float32'? known: float32, bfloat16, auto\n"));
  EXPECT_THAT(run_program({"check", write(R"(, "grid": {"products": ["float32"]})").string()}).err,
              HasSubstr("e.json: grid.products: all cells run with the same products; state them once"));
}

TEST_F(ProductsOption, IsPartOfACellsIdentityAsWhatItComesToHere) {
  const std::string usual = hash(write("")), rounded = hash(write(R"(, "products": "bfloat16")"));
  EXPECT_NE(rounded, usual);
  EXPECT_EQ(hash(write(R"(, "products": "float32")")), usual);
  EXPECT_EQ(hash(write(R"(, "products": "auto")")), has_fast_bfloat16() ? rounded : usual);
  ConfigOverrides said;
  said.products = "bfloat16";
  EXPECT_EQ(hash(write(""), said), rounded);
}

TEST_F(ProductsOption, RecordsSayWhatWasMultiplied) {
  const fs::path config = write(R"(, "products": "auto")");
  const auto result = run_program({"run", config.string(), "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const RunRecord record = read_record(plan_experiment(config, {}).cells.front().record);
  EXPECT_EQ(record.config["products"], has_fast_bfloat16() ? "bfloat16" : "float32");
  const Json report =
      run_program({"evaluate", "--model", (folder_ / "model").string(), "--perplexity", (folder_ / "text.txt").string(),
                   "--context", "32", "--products", "bfloat16", "--json", "--quiet"})
          .json();
  EXPECT_EQ(report["products"], "bfloat16");
}

}  // namespace
}  // namespace mla
