// Free pivots, presets and formats, against the records they are made of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "analysis/paper.h"
#include "core/base/file.h"
#include "tests/analysis/run_report.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr double kExact = 1e-12;

class Pivot : public testing::Test {
 protected:
  void SetUp() override {
    for (const int seed : {1, 2, 3}) {
      write(test::synthetic_baseline(seed));
      for (const char* rope : {"high", "two_norm"}) {
        for (const int d_kv : {4, 8}) write(test::synthetic_record({rope, "joint_svd", 2, d_kv, seed}));
      }
    }
  }
  void write(RunRecord record) {
    write_record(folder_ / ("sweep/" + record.head.cell + ".h5"), record);
    records_.push_back(std::move(record));
  }
  test::ReportResult pivot(const std::vector<std::string>& options) const {
    std::vector<std::string> all = {"table", folder_.path().string()};
    all.insert(all.end(), options.begin(), options.end());
    return test::run_report(all);
  }
  /// The value that a record holds.
  static double value(const RunRecord& record, const std::string& stage, const std::string& task,
                      const std::string& metric) {
    for (const ScoreRecord& score : record.evaluation) {
      if (score.stage == stage && score.task == task && score.metric == metric) return score.value;
    }
    return std::nan("");
  }

  test::TemporaryFolder folder_;
  std::vector<RunRecord> records_;
};

TEST_F(Pivot, NumbersEqualThoseOfTheRecords) {
  const Json json = pivot({"--row", "rope_name", "--column", "d_kv", "--metric", "perplexity/perplexity", "--where",
                           "method=mha2mla", "--json"})
                        .json();
  EXPECT_EQ(json["columns"], Json({"4", "8"}));
  ASSERT_EQ(json["rows"].size(), 2u);
  for (const Json& row : json["rows"]) {
    for (const int d_kv : {4, 8}) {
      std::vector<double> values;
      for (const RunRecord& record : records_) {
        if (record.overrides.value("compress[0].rope.name", "") != row["rope_name"] ||
            record.overrides.value("compress[0].low_rank.d_kv", 0) != d_kv)
          continue;
        values.push_back(value(record, "fine_tuned", "perplexity", "perplexity"));
      }
      ASSERT_EQ(values.size(), 3u);
      const double mean = (values[0] + values[1] + values[2]) / 3;
      double squares = 0;
      for (const double each : values) squares += (each - mean) * (each - mean);
      const Json& cell = row["values"][std::to_string(d_kv)];
      EXPECT_NEAR(cell["mean"].get<double>(), mean, kExact);
      EXPECT_NEAR(cell["standard_error"].get<double>(), std::sqrt(squares / 2 / 3), kExact);
      EXPECT_EQ(cell["runs"], 3);
    }
  }
}

TEST_F(Pivot, EveryPresetShowsTheRecordsNumbers) {
  for (const std::string& preset : preset_names()) {
    SCOPED_TRACE(preset);
    const auto result = test::run_report({"table", preset, folder_.path().string(), "--json"});
    if (preset == "table5") {  // partial RoPE alone: of these records only the baseline
      EXPECT_EQ(result.exit_code, 0) << result.err;
      continue;
    }
    ASSERT_EQ(result.exit_code, 0) << result.err;
    std::size_t compared = 0;
    const Json json = result.json();
    for (const Json& row : json["rows"]) {
      if (row.value("numbers", "ours") != "ours" || row["rope"] != "high r=2" || row["low_rank"] != "joint_svd d_kv=8")
        continue;
      for (const char* task : {"agreement", "copying", "arithmetic"}) {
        if (!row["values"].contains(task)) continue;
        double mean = 0;
        for (const RunRecord& record : records_) {
          if (record.overrides.value("compress[0].rope.name", "") == "high" &&
              record.overrides.value("compress[0].low_rank.d_kv", 0) == 8) {
            mean += 100 * value(record, "fine_tuned", task, "accuracy_normalized") / 3;
          }
        }
        EXPECT_NEAR(row["values"][task]["mean"].get<double>(), mean, kExact);
        ++compared;
      }
    }
    EXPECT_EQ(compared, preset == "table2" || preset == "table4" ? 0u : 3u);
  }
}

TEST_F(Pivot, ThePapersNumbersStandBesideOurs) {
  RunRecord record = test::synthetic_record({"two_norm", "joint_svd", 4, 16, 1});
  record.config["model"]["path"] = "/models/SmolLM-135M/";
  record.config["compress"][0]["rope"]["pairs"] = 4;
  for (LayerRecord& layer : record.compression) layer.cached_elements = 48;  // of 256: 81.25 % saved
  record.cache.clear();
  record.evaluation.clear();
  for (const char* task : {"mmlu", "arc_easy", "arc_challenge", "piqa"}) {
    record.evaluation.push_back(test::synthetic_score("fine_tuned", task, "accuracy_normalized",
                                                      std::string(task) == "arc_easy" ? 0.5 : 0.3, {}, true));
  }
  record.head.content_hash = "smol";
  write_record(folder_ / "smol/x.h5", record);
  const auto result = test::run_report({"table", "table1", (folder_ / "smol").string(), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = result.json();
  ASSERT_EQ(json["rows"][0]["numbers"], "ours");
  EXPECT_NEAR(json["rows"][0]["values"]["arc"]["mean"].get<double>(), 40, kExact);
  ASSERT_EQ(json["rows"][1]["numbers"], "paper");
  EXPECT_EQ(json["rows"][1]["values"]["mmlu"]["mean"], 28.66);
  ASSERT_EQ(json["rows"][2]["numbers"], "difference");
  EXPECT_NEAR(json["rows"][2]["values"]["mmlu"]["mean"].get<double>(), 30 - 28.66, kExact);
  EXPECT_NEAR(json["rows"][2]["values"]["arc"]["mean"].get<double>(), 40 - 39.95, kExact);
  EXPECT_FALSE(json["rows"][0]["values"].contains("winogrande")) << "what was not measured stays empty";
  EXPECT_FALSE(json["rows"][2]["values"].contains("average")) << "an average over other tasks cannot be compared";
  EXPECT_EQ(json["rows"].size(), 22u);  // ours with the paper's and the difference, and the paper's 19 others
}

TEST_F(Pivot, ANoteNamesWhatACellMixes) {
  const auto result = pivot({"--row", "rope_name", "--metric", "perplexity"});
  EXPECT_THAT(result.out, HasSubstr("a cell averages over runs that differ in: compress[0].low_rank.d_kv\n"));
  EXPECT_THAT(pivot({"--row", "rope_name", "--row", "d_kv", "--metric", "perplexity"}).out,
              Not(HasSubstr("differ in: ")));
}

TEST_F(Pivot, RunsThatStandTwiceCountOnce) {
  RunRecord copy = records_[1];
  write_record(folder_ / "copy/x.h5", copy);
  const auto result = pivot({"--row", "rope_name", "--metric", "perplexity", "--json"});
  EXPECT_EQ(result.json()["left_out_count"], 1);
  EXPECT_THAT(result.json()["left_out"][0].get<std::string>(), HasSubstr("the same run as"));
}

TEST_F(Pivot, StagesTasksNumbersAndSorting) {
  const Json stages = pivot({"--row", "stage", "--metric", "perplexity", "--where", "rope_name=high", "--json"}).json();
  EXPECT_EQ(stages["rows"].size(), 2u) << "converted and fine-tuned; the source model keeps all pairs";
  const Json tasks = pivot({"--row", "task", "--column", "rope_name", "--metric", "accuracy_normalized", "--where",
                            "rope_name!=all", "--json"})
                         .json();
  EXPECT_EQ(tasks["columns"], Json({"high", "two_norm"}));
  EXPECT_EQ(tasks["rows"][0]["task"], "agreement");
  const Json sorted = pivot({"--row", "cell", "--metric", "bytes_per_token", "--metric", "train.steps", "--sort",
                             "bytes_per_token:desc", "--json"})
                          .json();
  EXPECT_EQ(sorted["rows"][0]["values"]["bytes_per_token"]["mean"], 64 * 256 * 4 * 4 / 64);
  EXPECT_EQ(sorted["rows"][0]["values"]["train.steps"]["mean"], 20);
}

TEST_F(Pivot, FormatsOfOneTable) {
  const std::string markdown = pivot({"--row", "rope_name", "--metric", "perplexity", "--format", "markdown"}).out;
  EXPECT_THAT(markdown, AllOf(HasSubstr("| rope\\_name |"), HasSubstr("|---|---:|"), HasSubstr(" **")));
  const std::string csv = pivot({"--row", "cell", "--metric", "perplexity", "--format", "csv"}).out;
  EXPECT_THAT(csv, AllOf(HasSubstr("numbers,cell,runs,diverged,perplexity,perplexity_standard_error,perplexity_runs\n"),
                         HasSubstr("\"low_rank.name=joint_svd,")));
  EXPECT_THAT(csv, HasSubstr(Json(value(records_[1], "fine_tuned", "perplexity", "perplexity")).dump()))
      << "all digits";
  const auto file = folder_ / "t.tex";
  ASSERT_EQ(
      pivot({"--row", "rope_name", "--metric", "perplexity", "--format", "latex", "--output", file.string()}).exit_code,
      0);
  EXPECT_THAT(read_file(file), AllOf(HasSubstr("rope\\_name"), HasSubstr("\\textbf{"), HasSubstr("\\bottomrule")));
}

TEST_F(Pivot, LatexCompiles) {
  if (std::system("command -v pdflatex >/dev/null 2>&1") != 0) GTEST_SKIP() << "pdflatex is not installed";
  std::string document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n";
  for (const std::string& preset : preset_names())
    document += test::run_report({"table", preset, folder_.path().string(), "--format", "latex"}).out;
  folder_.write("all.tex", document + "\\end{document}\n");
  const std::string command =
      "cd " + folder_.path().string() + " && pdflatex -interaction=nonstopmode -halt-on-error all.tex >log 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_file(folder_ / "log");
}

TEST_F(Pivot, ATableConfigIsAFile) {
  const auto config = folder_.write(
      "mine.json",
      R"({"title": "Mine", "rows": ["rope_name"], "columns": ["d_kv"], "metrics": ["perplexity"],
          "where": ["rope_name=high,two_norm"]})");
  const auto result = test::run_report({"table", config.string(), folder_.path().string()});
  EXPECT_THAT(result.out, AllOf(HasSubstr("Mine\n"), HasSubstr("two_norm")));
  const auto wrong =
      test::run_report({"table", folder_.write("wrong.json", R"({"row": []})").string(), folder_.path().string()});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, AllOf(HasSubstr("wrong.json"), HasSubstr("did you mean 'rows'")));
}

TEST_F(Pivot, MistakesAreOneLine) {
  const auto fails = [&](const std::vector<std::string>& options, int code, const char* words) {
    const auto result = pivot(options);
    EXPECT_EQ(result.exit_code, code);
    EXPECT_THAT(result.err, HasSubstr(words));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
    EXPECT_EQ(result.out, "");
  };
  fails({"--row", "rope_nam"}, 2, "did you mean 'rope_name'");
  fails({"--row", "rope_name", "--where", "rope_name"}, 2, "expected KEY=VALUE");
  fails({"--row", "rope_name", "--metric", "perplexty"}, 3, "known: accuracy_normalized, nll, perplexity");
  fails({"--row", "rope_name", "--sort", "runz"}, 2, "--sort");
  fails({"--column", "rope_name"}, 2, "needs --row");
  fails({"--format", "html"}, 2, "known: terminal, markdown");
  fails({"--rows", "x"}, 2, "table: ");
  EXPECT_EQ(test::run_report({"table", "tabel1", folder_.path().string()}).exit_code, 2);
  EXPECT_EQ(test::run_report({"table", (folder_ / "none").string()}).exit_code, 3);
}

}  // namespace
}  // namespace mla
