// Models as they are published: keys without an effect, other names, several end tokens. Needs ../shared.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using test::run_program;
using test::shared_folder;
using testing::AllOf;
using testing::HasSubstr;

/// Expected values are written with five decimals.
constexpr double kWritten = 2e-5;

std::string case_file(const std::string& name) { return (shared_folder() / "data/cases" / name).string(); }

void expect_nll(const std::string& model, const std::string& ids, const std::string& expected) {
  const auto result = run_program({"score", "--model", model, "--ids", ids, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json found = result.json()["nll"], wanted = read_json(expected)["nll"];
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t row = 0; row < wanted.size(); ++row) {
    ASSERT_EQ(found[row].size(), wanted[row].size());
    for (std::size_t i = 0; i < wanted[row].size(); ++i)
      EXPECT_NEAR(found[row][i].get<double>(), wanted[row][i].get<double>(), kWritten) << model << row << " " << i;
  }
}

TEST(PublishedModels, KeysWithoutAnEffect) {
  const std::string folder = "08-harmless-config-keys-refused";
  MLA_NEEDS_SHARED("data/cases/" + folder);
  for (const std::string model : {"smollm2-instruct", "llama1-mirror", "longchat-form"}) {
    expect_nll(case_file(folder + "/" + model), case_file(folder + "/smollm2-instruct/ids.json"),
               case_file(folder + "/" + model + "/expected.json"));
  }
  const auto result = run_program({"inspect", case_file(folder + "/smollm2-instruct"), "--json"});
  const Json keys = result.json()["ignored_config_keys"];
  EXPECT_TRUE(keys.contains("transformers.js_config") && keys.contains("is_llama_config")) << keys;
  EXPECT_FALSE(keys.contains("rope_theta") || keys.contains("vocab_size")) << keys;
}

TEST(PublishedModels, RopeScalingBesideRopeParameters) {
  const std::string folder = "09-rope_scaling-beside-rope_parameters";
  MLA_NEEDS_SHARED("data/cases/" + folder);
  expect_nll(case_file(folder), case_file(folder + "/ids.json"), case_file(folder + "/expected.json"));
}

TEST(PublishedModels, ATiedConfigWithAnotherOutputMatrix) {
  const std::string folder = "10-tied-with-own-lm_head";
  MLA_NEEDS_SHARED("data/cases/" + folder);
  expect_nll(case_file(folder), case_file(folder + "/ids.json"), case_file(folder + "/expected.json"));
  EXPECT_EQ(run_program({"inspect", case_file(folder), "--json"}).json()["geometry"]["tied_embeddings"], false);
}

TEST(PublishedModels, TrailingBytes) {
  const std::string folder = "12-safetensors-that-the-format-forbids";
  MLA_NEEDS_SHARED("data/cases/" + folder);
  const auto result =
      run_program({"score", "--model", case_file(folder + "/trailing"), "--ids", case_file(folder + "/ids.json")});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("bytes follow the last tensor"));
}

TEST(PublishedModels, NamesWithoutModelInFront) {
  const std::string folder = "21-names-with-another-prefix";
  MLA_NEEDS_SHARED("data/cases/" + folder);
  expect_nll(case_file(folder + "/no_model_prefix"), case_file(folder + "/ids.json"),
             case_file(folder + "/expected_no_model_prefix.json"));
}

/// tinystories-656k with the configs of the case; `without` is left out.
std::vector<std::int64_t> generated(const std::string& without, const Json& generation = nullptr) {
  const std::string folder = "13-several-end-tokens", weights = "data/weights/tinystories-656k/";
  const test::TemporaryFolder model;
  for (const char* file : {"model.safetensors", "tokenizer.json", "tokenizer_config.json"})
    fs::copy_file(shared_folder() / (weights + file), model / file);
  for (const char* file : {"config.json", "generation_config.json"}) {
    if (without != file) fs::copy_file(case_file(folder + "/" + file), model / file);
  }
  if (without == "config.json") fs::copy_file(shared_folder() / (weights + "config.json"), model / "config.json");
  if (!generation.is_null()) write_json(model / "generation_config.json", generation);
  const auto result = run_program(
      {"generate", "--model", model.path().string(), "--prompt", "Once upon a time", "--new-tokens", "40", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result.json()["ids"].get<std::vector<std::int64_t>>();
}

TEST(PublishedModels, SeveralEndTokens) {
  MLA_NEEDS_SHARED("data/cases/13-several-end-tokens");
  MLA_NEEDS_SHARED("data/weights/tinystories-656k/model.safetensors");
  const std::vector<std::int64_t> both = generated("");
  EXPECT_EQ(both.size(), 8u);
  EXPECT_EQ(both.back(), 333);
  EXPECT_EQ(generated("config.json"), both) << "generation_config.json alone names it";
  EXPECT_EQ(generated("generation_config.json"), both) << "config.json alone names it";
  EXPECT_EQ(generated("", {{"eos_token_id", 2}}).size(), 40u) << "generation_config.json goes before config.json";
  EXPECT_EQ(generated("", {{"eos_token_id", nullptr}}), both) << "one that names none leaves it to config.json";
}

/// Sixteen bits hold an NLL of 5 to 0.03.
TEST(PublishedModels, LossesAreNotRoundedToTheDtypeOfTheModel) {
  const test::TemporaryFolder folder;
  test::write_tiny_model(folder / "model");
  const auto ids = folder.write("ids.json", R"({"ids": [[1, 5, 9, 40, 7, 200, 33, 12, 99, 43, 150, 77]]})");
  for (const char* dtype : {"bfloat16", "float16"}) {
    const auto result = run_program(
        {"score", "--model", (folder / "model").string(), "--ids", ids.string(), "--dtype", dtype, "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const Json report = result.json();
    std::int64_t fine = 0;
    for (const Json& value : report["nll"][0]) {
      const double steps = value.get<double>() * 4096;
      fine += steps != std::round(steps);
    }
    EXPECT_GT(fine, 8) << dtype << result.out;
  }
}

}  // namespace
}  // namespace mla
