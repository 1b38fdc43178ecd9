// A config in YAML is the same experiment as in JSON.
#include <gtest/gtest.h>

#include "core/base/yaml.h"
#include "experiments/cell/identity.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

constexpr const char* kYaml = R"(# The same as below.
model: {path: MODEL/model}
results: MODEL/results
calibration: &text
  files: [MODEL/text.txt]
  documents: {separator: "###"}
  length: 16
compress:
  - name: mha2mla
    rope: {name: two_norm, pairs: 1}
    low_rank: {name: joint_svd, d_kv: 2}
train:
  steps: 3
  sequence_length: 16
  learning_rate: 1e-3
  data: *text
evaluate:
  - {task: perplexity, context: 16, data: *text}
grid:
  compress[0].low_rank.d_kv: [2, 4]
)";

class YamlConfigs : public testing::Test {
 protected:
  YamlConfigs() {
    test::write_tiny_inputs(folder_);
    std::string text = kYaml;
    for (std::size_t at = text.find("MODEL"); at != std::string::npos; at = text.find("MODEL"))
      text.replace(at, 5, folder_.path().string());
    yaml_ = folder_.write("a/x.yaml", text);
    json_ = folder_.write("b/x.json", parse_yaml(text, "x").dump());
  }
  test::TemporaryFolder folder_;
  std::filesystem::path yaml_, json_;
};

TEST_F(YamlConfigs, HaveTheIdentityOfTheSameInJson) {
  const ExperimentPlan yaml = plan_experiment(yaml_, {}), json = plan_experiment(json_, {});
  ASSERT_EQ(yaml.cells.size(), 2u);
  Session session(yaml.cells), other(json.cells);
  for (std::size_t i = 0; i < yaml.cells.size(); ++i) {
    EXPECT_EQ(yaml.cells[i].name, json.cells[i].name);
    EXPECT_EQ(yaml.cells[i].expanded.dump(), json.cells[i].expanded.dump());
    const CellIdentity a = identify(yaml.cells[i], session), b = identify(json.cells[i], other);
    EXPECT_EQ(a.hash, b.hash);
    EXPECT_EQ(a.earlier, b.earlier);
  }
}

TEST_F(YamlConfigs, AreReadByEveryCommandThatTakesAConfig) {
  for (std::vector<std::string> command : std::vector<std::vector<std::string>>{{"show", "CONFIG"},
                                                                                {"check", "CONFIG", "--no-estimate"},
                                                                                {"run", "CONFIG", "--dry-run"},
                                                                                {"slurm", "CONFIG", "--dry-run"}}) {
    std::vector<std::string> with_json = command;
    command[1] = yaml_.string();
    with_json[1] = json_.string();
    const auto yaml = test::run_program(command), json = test::run_program(with_json);
    EXPECT_EQ(yaml.exit_code, 0) << command[0] << yaml.err;
    EXPECT_EQ(json.exit_code, 0);
  }
  EXPECT_EQ(test::run_program({"show", yaml_.string()}).out, test::run_program({"show", json_.string()}).out);
}

TEST_F(YamlConfigs, ATypeThatDoesNotFitIsRefusedAsInJson) {
  const auto result = test::run_program({"check", folder_.write("no.yaml", "base: a/x.yaml\nbaseline: no\n").string()});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.err, "mlaforge check: baseline: expected true or false, found \"no\"\n");
}

}  // namespace
}  // namespace mla
