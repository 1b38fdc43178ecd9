// mlaforge export and verify-export.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/file.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using test::run_program;
using ::testing::HasSubstr;

/// A folder with a tiny model, and with it converted on a comb.
const test::TemporaryFolder& export_inputs() {
  static const test::TemporaryFolder folder;
  static const bool made = [] {
    test::write_tiny_inputs(folder);
    return run_program({"convert", "--model", (folder / "model").string(), "--output", (folder / "comb").string(),
                        "--rope", "comb", "--pairs", "1", "--d-kv", "6"})
               .exit_code == 0;
  }();
  EXPECT_TRUE(made);
  return folder;
}

std::vector<std::string> export_words(const std::string& model, const fs::path& output) {
  return {"export",   "--model",      (export_inputs() / model).string(), "--format", "deepseek_v3",
          "--output", output.string()};
}

std::size_t entries_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(ExportCommand, WritesWhatVerifyExportReadsAgain) {
  const test::TemporaryFolder folder;
  std::vector<std::string> words = export_words("comb", folder / "out");
  words.insert(words.end(), {"--calibration", (export_inputs() / "text.txt").string(), "--json"});
  const auto written = run_program(words);
  ASSERT_EQ(written.exit_code, 0) << written.err;
  const Json report = written.json();
  EXPECT_EQ(report.at("cached_values_per_token_and_layer"), 2 * 6 + 2 * 2);
  EXPECT_EQ(report.at("engines").size(), 5U);
  EXPECT_EQ(report.at("details").at("latent_size"), "measured");
  EXPECT_EQ(entries_in(folder.path()), 1U) << "nothing is left beside the export";
  for (const char* name : {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"})
    EXPECT_TRUE(fs::exists(folder / "out" / name)) << name;

  const std::vector<std::string> verify = {"verify-export", (folder / "out").string(), "--model",
                                           (export_inputs() / "comb").string(), "--json"};
  for (const std::vector<std::string>& more : {std::vector<std::string>{},
                                               {"--tokens", "9"},
                                               {"--text", (export_inputs() / "text.txt").string()},
                                               {"--logits", (folder / "reference.safetensors").string()}}) {
    std::vector<std::string> all = verify;
    all.insert(all.end(), more.begin(), more.end());
    const auto verified = run_program(all);
    ASSERT_EQ(verified.exit_code, 0) << verified.err;
    EXPECT_LT(verified.json().at("largest_difference").get<double>(), 5e-5);
    EXPECT_EQ(verified.json().at("cached_values_per_token"), 2 * 16);
  }
  EXPECT_TRUE(fs::exists(folder / "reference.safetensors"));
}

TEST(ExportCommand, VerifyExportTellsAModelFromAnother) {
  const test::TemporaryFolder folder;
  ASSERT_EQ(run_program(export_words("comb", folder / "out")).exit_code, 0);
  const auto other =
      run_program({"verify-export", (folder / "out").string(), "--model", (export_inputs() / "model").string()});
  EXPECT_EQ(other.exit_code, 3);
  EXPECT_THAT(other.err, HasSubstr("standard deviations; expected at most 5e-05"));
}

TEST(ExportCommand, RefusesInOneLine) {
  const test::TemporaryFolder folder;
  folder.write("full/file", "x");
  const auto refused = [](const std::vector<std::string>& words) {
    const auto result = run_program(words);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    return result.err;
  };
  EXPECT_THAT(refused(export_words("comb", folder / "full")), HasSubstr("holds files already"));
  EXPECT_THAT(refused(export_words("comb", folder / "full" / "file")), HasSubstr("is a file"));
  EXPECT_THAT(refused(export_words("model", folder / "out")), HasSubstr("convert the model first"));
  std::vector<std::string> words = export_words("comb", folder / "out");
  words.insert(words.end(), {"--dtype", "float8"});
  EXPECT_THAT(refused(words), HasSubstr("--dtype: no 'float8'"));
  words = export_words("comb", folder / "out");
  words[4] = "onnx";
  EXPECT_THAT(refused(words), HasSubstr("--format: no 'onnx'"));
  EXPECT_EQ(entries_in(folder.path()), 1U) << "nothing is left of what was refused";
}

}  // namespace
}  // namespace mla
