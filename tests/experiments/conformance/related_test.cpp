// Golden outputs of other compression systems through this program's passes, and files that hold none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/json.h"
#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::run_program;
using testing::HasSubstr;

constexpr const char* kRelated = "data/conformance/related";

class RelatedCases : public testing::TestWithParam<const char*> {};

TEST_P(RelatedCases, AgreeWithTheGoldens) {
  MLA_NEEDS_SHARED(kRelated);
  MLA_NEEDS_SHARED("data/weights/tinystories-656k");
  const auto file = test::shared_folder() / kRelated / (std::string(GetParam()) + ".json");
  const auto result = run_program({"conformance", "--cases", file.string(), "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  const Json report = result.json();
  EXPECT_GT(report["cases"].get<int>(), 1);
  EXPECT_EQ(report["passed"], report["cases"]);
  for (const Json& one : report["results"]) EXPECT_FALSE(one["checks"].empty()) << one;
}

INSTANTIATE_TEST_SUITE_P(Files, RelatedCases,
                         testing::Values("billm", "kvheads", "lorc", "mfa", "mka", "shared_attention", "taylor"),
                         [](const auto& file) { return std::string(file.param); });

TEST(RelatedCasesReport, TellsWhatDiffers) {
  MLA_NEEDS_SHARED(kRelated);
  MLA_NEEDS_SHARED("data/weights/tinystories-656k");
  const auto folder = test::shared_folder() / kRelated;
  Json wrong = read_json(folder / "lorc.json");
  wrong["cases"][0]["kappa_k"][1] = 1.0;
  const test::TemporaryFolder copy;
  write_json(copy / "lorc.json", wrong);
  const auto tensors = (folder / "lorc.safetensors").string();
  const auto model = (test::shared_folder() / "data/weights/tinystories-656k").string();
  const auto result = run_program({"conformance", "--cases", (copy / "lorc.json").string(), "--input", tensors,
                                   "--model", model, "--only", "alloc_tinystories-656k"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr("kappa_k[1]"));
  EXPECT_THAT(result.out, HasSubstr("0 of 1 cases of LoRC (2410.03111) agree"));
}

TEST(RelatedCasesReport, FindsModelsOfOtherForms) {
  MLA_NEEDS_SHARED("data/weights/babyllama-tok105");
  const test::TemporaryFolder folder;
  for (const auto& [name, layers] : {std::pair{"stories260K", 5}, {"babyllama-tok105", 5}}) {
    write_json(folder / "x.json", {{"system", "LoRC"},
                                   {"cases",
                                    {{{"id", "a"},
                                      {"model", name},
                                      {"kappa_k", Json::array()},
                                      {"kappa_v", Json::array()},
                                      {"cumulative_ln", Json::array()},
                                      {"allocations", Json::array()}}}}});
    const auto model = (test::shared_folder() / "data/weights" / name).string();
    const auto result =
        run_program({"conformance", "--cases", (folder / "x.json").string(), "--model", model, "--json"});
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_EQ(result.json()["results"][0]["checks"]["kappa_k layers"]["difference"], layers) << name;
  }
}

TEST(RelatedCasesReport, RefusesFilesOfOtherForms) {
  const test::TemporaryFolder folder;
  const auto run = [&](const Json& json, const std::vector<std::string>& more = {}) {
    write_json(folder / "x.json", json);
    std::vector<std::string> arguments{"conformance", "--cases", (folder / "x.json").string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  };
  const auto unknown = run({{"system", "PyramidKV (2406.02069)"}, {"cases", Json::array()}});
  EXPECT_EQ(unknown.exit_code, 3);
  EXPECT_THAT(unknown.err, HasSubstr("x.json.system: no part of this program for 'PyramidKV (2406.02069)'; known: "));
  EXPECT_THAT(unknown.err, HasSubstr("llm_pruner, lorc, mfa, mka, shared_attention"));
  EXPECT_THAT(run({{"system", "MKA"}}).err, HasSubstr("x.json.cases: expected a list"));
  EXPECT_THAT(run({{"system", "MKA"}, {"cases", Json::array()}}).err, HasSubstr("x.json: holds no cases"));
  EXPECT_THAT(run({{"system", "MKA"}, {"cases", {1}}}).err, HasSubstr("x.json.cases[0]: expected an object"));
  EXPECT_THAT(run({{"system", "MKA"}, {"cases", {Json::object()}}}).err, HasSubstr("x.json.cases[0].id"));
  EXPECT_THAT(run({{"system", "MKA"}, {"cases", {{{"id", "a"}, {"sigma", 8}}}}}).err,
              HasSubstr("x.json.cases[0].tensors: X, the points, is missing"));
  EXPECT_THAT(run({{"system", "LoRC"}, {"cases", {{{"id", "a"}, {"model", "none"}, {"rank", 3}}}}}).err,
              HasSubstr("name it by --model"));
  // A case in which nothing is compared has not passed.
  EXPECT_EQ(run({{"system", "LoRC"}, {"cases", {{{"id", "a"}}}}}).exit_code, 1);
}

}  // namespace
}  // namespace mla
