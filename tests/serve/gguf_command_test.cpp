// mlaforge export --format gguf, and verify-export of what it writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/gguf/file.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// A folder with a tiny model, and with it converted on a comb.
const test::TemporaryFolder& gguf_inputs() {
  static const test::TemporaryFolder folder;
  static const bool made = [] {
    test::write_tiny_inputs(folder);
    return test::run_program({"convert", "--model", (folder / "model").string(), "--output", (folder / "comb").string(),
                              "--rope", "comb", "--pairs", "1", "--d-kv", "6"})
               .exit_code == 0;
  }();
  EXPECT_TRUE(made);
  return folder;
}

test::ProgramResult run_gguf(const std::string& model, const std::filesystem::path& output,
                             const std::vector<std::string>& more = {}) {
  std::vector<std::string> words = {
      "export", "--model", (gguf_inputs() / model).string(), "--format", "gguf", "--output", output.string(), "--json"};
  words.insert(words.end(), more.begin(), more.end());
  return test::run_program(words);
}

TEST(GgufCommand, WritesWhatVerifyExportReads) {
  const test::TemporaryFolder folder;
  for (const char* model : {"model", "comb"}) {
    for (const char* type : {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"}) {
      const auto file = folder / (std::string(model) + type + ".gguf");
      const auto written = run_gguf(model, file, {"--type", type});
      ASSERT_EQ(written.exit_code, 0) << written.err;
      EXPECT_EQ(written.json().at("dtype"), type);
      const auto read =
          test::run_program({"verify-export", file.string(), "--model", (gguf_inputs() / model).string(), "--json"});
      EXPECT_EQ(read.exit_code, 0) << model << ' ' << type << ": " << read.err;
      EXPECT_EQ(read.json().at("cached_values_per_token"),
                2 * written.json().at("cached_values_per_token_and_layer").get<std::int64_t>());
      EXPECT_TRUE(std::filesystem::exists(folder / (std::string(model) + type + ".md")));
    }
  }
}

TEST(GgufCommand, AFolderHoldsModelGgufAndItsCard) {
  const test::TemporaryFolder folder;
  const auto written = run_gguf("comb", folder / "out", {"--dtype", "bfloat16"});
  ASSERT_EQ(written.exit_code, 0) << written.err;
  EXPECT_EQ(written.json().at("dtype"), "BF16") << "as GGUF files call it";
  EXPECT_EQ(gguf::File(folder / "out" / "model.gguf").metadata()["general.file_type"], 32);
  EXPECT_EQ(gguf::File(folder / "out" / "model.gguf").metadata()["tokenizer.ggml.model"], "llama");
  EXPECT_TRUE(std::filesystem::exists(folder / "out" / "README.md"));
  const auto default_type = run_gguf("comb", folder / "other", {"--tokenizer", "none"});
  EXPECT_EQ(default_type.json().at("dtype"), "F32") << "as the model is held";
  EXPECT_THAT(default_type.json().at("notes").dump(), HasSubstr("no tokenizer"));
}

TEST(GgufCommand, RefusalsAreOneLine) {
  const test::TemporaryFolder folder;
  const auto refused = [&](const std::vector<std::string>& more) {
    const auto result = run_gguf("comb", folder / "out", more);
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  EXPECT_THAT(refused({"--type", "Q4_K"}),
              AllOf(HasSubstr("Q4_K"), HasSubstr("known: F32, F16, BF16, Q8_0, Q4_0, Q4_1")));
  EXPECT_THAT(refused({"--type", "F16", "--dtype", "float16"}), HasSubstr("--type: says the same as --dtype"));
  const auto folder_format = test::run_program({"export", "--model", (gguf_inputs() / "comb").string(), "--format",
                                                "deepseek_v3", "--output", (folder / "x.gguf").string()});
  EXPECT_EQ(folder_format.exit_code, 2);
  EXPECT_THAT(folder_format.err, HasSubstr("names a file, and this format writes a folder"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace mla
