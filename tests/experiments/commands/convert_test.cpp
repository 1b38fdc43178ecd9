// `mlaforge convert`, from flags and from a config, and what it leaves behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using testing::HasSubstr;

constexpr double kExact = 1e-9;

class Convert : public testing::Test {
 protected:
  void SetUp() override { test::write_tiny_model(folder_ / "model"); }
  std::string model() const { return (folder_ / "model").string(); }
  std::string output() const { return (folder_ / "out").string(); }

  test::ProgramResult convert(std::vector<std::string> flags) const {
    flags.insert(flags.begin(), {"convert", "--model", model(), "--output", output(), "--json", "--quiet"});
    return run_program(flags);
  }
  Json nll(const std::string& folder) const {
    const auto ids = folder_.write("ids.json", R"({"ids": [[1, 5, 9, 40, 7, 200, 33, 12]]})");
    return run_program({"score", "--model", folder, "--ids", ids.string(), "--dtype", "float64"}).json()["nll"][0];
  }

  test::TemporaryFolder folder_;
};

TEST_F(Convert, KeepingEverythingKeepsTheFunction) {
  const auto result = convert({"--rope", "all", "--low-rank", "none", "--dtype", "float64"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.json()["cache_ratio"], 1.0);
  const Json before = nll(model()), after = nll(output());
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(before[i].get<double>(), after[i].get<double>(), kExact);
}

TEST_F(Convert, WritesShardsOfTheSizeAskedFor) {
  const std::vector<std::string> flags = {"--rope", "all", "--low-rank", "none", "--max-shard-size", "20KB"};
  const auto result = convert(flags);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out/model.safetensors.index.json"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out/model.safetensors"));
  const Json before = nll(model()), after = nll(output());
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(before[i].get<double>(), after[i].get<double>(), kExact);
  const auto wrong = convert({"--rope", "all", "--low-rank", "none", "--max-shard-size", "small"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("--max-shard-size small: expected bytes, or a number and KB, MB or GB"));
}

TEST_F(Convert, ByAMethodThatIsNamed) {
  const auto result = convert({"--method", "lorc", "--set", "width=5", "--set", R"(allocate={"name": "uniform"})"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  EXPECT_EQ(report["cached_elements_per_token"], 2 * 2 * 5);
  EXPECT_EQ(report["compress"][0]["name"], "lorc");
  EXPECT_EQ(run_program({"inspect", output(), "--json"}).json()["parameters"]["total"], report["parameters"]);
  const auto ids = folder_.write("text.json", R"({"ids": [[1, 5, 9, 40, 7, 200, 33, 12], [1, 8, 8, 3]]})");
  const auto fewer = convert({"--method", "kv_heads", "--set", "kv_heads=1", "--calibration", ids.string()});
  ASSERT_EQ(fewer.exit_code, 0) << fewer.err;
  const Json of_fewer = fewer.json();
  for (const Json& layer : of_fewer["layers"]) {
    const Json& error = layer["relative_error"];
    EXPECT_GT(error["key"].get<double>(), 0);
    EXPECT_LT(std::min(error["key"].get<double>(), error["value"].get<double>()), error["joint"].get<double>());
    EXPECT_GT(std::max(error["key"].get<double>(), error["value"].get<double>()), error["joint"].get<double>());
  }
}

TEST_F(Convert, ToASizeOfTheCache) {
  Json rows = Json::array();
  for (int row = 0; row < 8; ++row) {
    Json& ids = rows.emplace_back(Json::array());
    for (int i = 0; i < 24; ++i) ids.push_back((row * 37 + i * i * 11 + i) % 250);
  }
  const auto ids = folder_.write("rows.json", Json({{"ids", rows}}).dump());
  const auto result = convert({"--method", "mkla", "--cached", "12", "--calibration", ids.string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.json()["cached_elements_per_token"], 12 * std::ssize(result.json()["layers"]));
  EXPECT_EQ(run_program({"inspect", output(), "--json"}).json()["parameters"]["total"], result.json()["parameters"]);
  EXPECT_EQ(nll(output()).size(), 7u);
  EXPECT_THAT(convert({"--method", "lorc", "--cached", "12"}).err,
              HasSubstr("--cached: --method lorc has no option `cached`; these have it:"));
  EXPECT_THAT(convert({"--method", "mkla", "--cached", "some", "--calibration", ids.string()}).err,
              HasSubstr("compress[0].cached: expected an integer"));
  EXPECT_THAT(convert({"--cached", "12"}).err, HasSubstr("--cached: gives an option of --method; name one"));
}

/// The public methods by name and budget alone.
TEST_F(Convert, ByAMethodAndTheValuesToCache) {
  const auto ids = folder_.write(
      "text.json", R"({"ids": [[1, 5, 9, 40, 7, 200, 33, 12], [1, 8, 8, 3], [1, 9, 2, 4, 4], [1, 30, 11, 6, 90]]})");
  for (const char* method :
       {"transmla", "care", "care_full_rope", "svd_llm", "asvd", "palu", "elitekv", "kq_svd", "x_ecomla"}) {
    const auto result = convert({"--method", method, "--cached", "12", "--calibration", ids.string()});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const Json report = result.json();
    for (const Json& layer : report["layers"]) EXPECT_EQ(layer["cached_elements_per_token"], 12) << method;
    EXPECT_EQ(run_program({"inspect", output(), "--json"}).json()["parameters"]["total"], report["parameters"]);
    EXPECT_FALSE(nll(output()).empty());
  }
  EXPECT_THAT(convert({"--method", "transmla", "--cached", "12"}).err, HasSubstr("--calibration"));
  EXPECT_THAT(convert({"--method", "palu"}).err, HasSubstr("compress[0].cached: state how many values"));
}

TEST_F(Convert, RefusesMethodsThatMakeNoSense) {
  EXPECT_THAT(convert({"--method", "lork"}).err, HasSubstr("compress[0].name: no 'lork'; did you mean 'lorc'"));
  EXPECT_THAT(convert({"--method", "lorc", "--set", "rank=3"}).err, HasSubstr("compress[0].rank"));
  EXPECT_THAT(convert({"--method", "lorc", "--set", "width"}).err, HasSubstr("--set width: expected KEY=VALUE"));
  EXPECT_THAT(convert({"--method", "lorc", "--d-kv", "4"}).err, HasSubstr("--d-kv: --method lorc takes its options"));
  EXPECT_THAT(convert({"--set", "width=3"}).err, HasSubstr("--set: gives options of --method; name one"));
  EXPECT_THAT(convert({"--method", "kv_heads", "--set", "kv_heads=1"}).err, HasSubstr("--calibration"));
}

TEST_F(Convert, ReportsEachLayer) {
  const auto result = convert({"--rope", "uniform", "--pairs", "1", "--low-rank", "split_svd", "--d-kv", "4"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  ASSERT_EQ(report["layers"].size(), 2u);
  for (const Json& layer : report["layers"]) {
    EXPECT_EQ(layer["kept_pairs"], Json::parse("[[0], [0]]"));
    EXPECT_EQ(layer["latent_width"], 8);
    EXPECT_EQ(layer["cached_elements_per_token"], 2 * 2 + 8);
    EXPECT_GT(layer["relative_error"]["joint"].get<double>(), 0);
  }
  EXPECT_EQ(report["cached_elements_per_token"], 24);
  EXPECT_EQ(run_program({"inspect", output(), "--json"}).json()["parameters"]["total"], report["parameters"]);
  EXPECT_EQ(read_json(folder_ / "out/conversion.json")["layers"], report["layers"]);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out/tokenizer.json"));
}

TEST_F(Convert, SeveralWidthsMakeSeveralModels) {
  const auto several = convert({"--rope", "high", "--pairs", "1", "--d-kv", "2,5"});
  ASSERT_EQ(several.exit_code, 0) << several.err;
  ASSERT_EQ(several.json()["models"].size(), 2u);
  const Json together = nll(output() + "/d_kv_2");
  ASSERT_EQ(convert({"--rope", "high", "--pairs", "1", "--d-kv", "2"}).exit_code, 0);
  const Json alone = nll(output());
  for (std::size_t i = 0; i < alone.size(); ++i) EXPECT_NEAR(together[i].get<double>(), alone[i].get<double>(), 1e-5);
}

TEST_F(Convert, CalibratesOnTextAndOnIds) {
  const auto text = folder_.write("text.txt", "ab ab abc cab\nba ab\n");
  const auto ids = folder_.write("rows.json", R"({"ids": [[1, 2, 3, 4], [9, 8, 7, 6, 5]]})");
  for (const auto& file : {text, ids}) {
    const auto result = convert({"--rope", "two_norm", "--pairs", "2", "--d-kv", "3", "--calibration", file.string()});
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
}

TEST_F(Convert, CalibratesOnRowsFromEverywhere) {
  const auto logits = [&](const char* rows, std::vector<std::string> more) {
    const auto ids = folder_.write("rows.json", cat(R"({"ids": [)", rows, "]}"));
    more.insert(more.begin(), {"--method", "mkla", "--cached", "12", "--calibration", ids.string()});
    const auto result = convert(more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nll(output());
  };
  const char* kAll = "[1, 5, 9, 40, 7, 200], [1, 8, 8, 3, 90, 12], [1, 60, 61, 62, 63, 64], [1, 33, 2, 77, 4, 101]";
  const Json spread = logits(kAll, {"--calibration-rows", "2", "--calibration-spread"});
  EXPECT_EQ(spread, logits("[1, 5, 9, 40, 7, 200], [1, 60, 61, 62, 63, 64]", {}));
  EXPECT_NE(spread, logits(kAll, {"--calibration-rows", "2"}));
}

TEST_F(Convert, TakesAConfig) {
  const auto config = folder_.write("config.json", R"({"compress": [{"name": "mha2mla",
    "rope": {"name": "explicit", "kept": [1, 3]}, "low_rank": {"name": "joint_svd", "latent": [5, 7]}}]})");
  const auto result = convert({"--config", config.string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.json()["layers"][0]["latent_width"], 5);
  EXPECT_EQ(result.json()["layers"][1]["latent_width"], 7);
  EXPECT_EQ(result.json()["layers"][1]["kept_pairs"], Json::parse("[[1, 3], [1, 3]]"));
}

TEST_F(Convert, WrongRequestsAreOneLineAndExitTwo) {
  const auto refused = [&](std::vector<std::string> flags) {
    const auto result = convert(std::move(flags));
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "out")) << "nothing may be written";
    return result.err;
  };
  EXPECT_THAT(refused({"--rope", "high", "--pairs", "5", "--d-kv", "4"}), HasSubstr("rope.pairs = 5"));
  EXPECT_THAT(refused({"--rope", "high", "--pairs", "1", "--d-kv", "40"}), HasSubstr("low_rank.d_kv = 40"));
  EXPECT_THAT(refused({"--rope", "hihg", "--pairs", "1", "--d-kv", "4"}), HasSubstr("did you mean 'high'"));
  EXPECT_THAT(refused({"--rope", "high", "--pairs", "1", "--low-rank", "joint"}), HasSubstr("no 'joint'"));
  EXPECT_THAT(refused({"--rope", "high", "--pairs", "1"}), HasSubstr("--d-kv: joint_svd needs"));
  EXPECT_THAT(refused({"--rope", "high", "--pairs", "1", "--d-kv", "x"}), HasSubstr("--d-kv x"));
  EXPECT_THAT(refused({"--rope", "two_norm", "--pairs", "1", "--d-kv", "4"}), HasSubstr("--calibration"));
  EXPECT_THAT(refused({"--rope", "high", "--pairs", "1", "--d-kv", "4", "--dtype", "float16"}), HasSubstr("float16"));
}

TEST_F(Convert, AConvertedModelIsNotConvertedAgain) {
  ASSERT_EQ(convert({"--rope", "high", "--pairs", "1", "--d-kv", "4"}).exit_code, 0);
  const auto again = run_program({"convert", "--model", output(), "--output", (folder_ / "twice").string(), "--rope",
                                  "high", "--pairs", "1", "--d-kv", "4", "--quiet"});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.err, HasSubstr("converted already"));
}

TEST(ConvertGolden, CommandLineReproducesTheGoldenConversions) {
  MLA_NEEDS_SHARED("data/conformance/mha2mla_conversion");
  const auto shared = test::shared_folder() / "data";
  const Json golden = read_json(shared / "conformance/mha2mla_conversion/tinystories-656k/golden.json");
  const test::TemporaryFolder folder;
  const auto calibration = folder.write("calibration.json", Json({{"ids", golden["calibration_ids"]}}).dump());
  const auto ids = folder.write("ids.json", Json({{"ids", golden["eval_ids"]}}).dump());
  for (const Json& expected : golden["cases"]) {
    if (expected["id"] != "2-norm-product_r2_joint_k8" && expected["id"] != "high_r2_split_k4") continue;
    const bool split = expected["method"] == "split";
    const auto result = run_program({"convert", "--model", (shared / "weights/tinystories-656k").string(), "--output",
                                     (folder / "out").string(), "--rope", split ? "high" : "two_norm", "--pairs", "2",
                                     "--low-rank", split ? "split_svd" : "joint_svd", "--d-kv", "8", "--calibration",
                                     calibration.string(), "--dtype", "float64", "--json", "--quiet"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    for (std::size_t layer = 0; layer < 2; ++layer)
      EXPECT_EQ(result.json()["layers"][layer]["kept_pairs"], expected["keep"][layer]);
    EXPECT_EQ(result.json()["parameters"], expected["parameters"]);
    const Json nll =
        run_program({"score", "--model", (folder / "out").string(), "--ids", ids.string(), "--dtype", "float64"})
            .json()["nll"];
    double sum = 0, count = 0;
    for (const Json& row : nll) {
      for (const Json& value : row) {
        sum += value.get<double>();
        ++count;
      }
    }
    EXPECT_NEAR(sum / count, expected["mean_nll"].get<double>(), kExact);
  }
}

}  // namespace
}  // namespace mla
