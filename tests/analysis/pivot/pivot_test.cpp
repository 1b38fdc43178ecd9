// Free pivots, presets and formats, against the records they are made of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>

#include "analysis/tables/paper.h"
#include "core/base/file.h"
#include "core/base/statistics.h"
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
    if (preset == "table5" || preset == "methods") {  // of these records only the baseline; without these keys
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
  // Another model's rows, beside those of the paper's that is nearest to it.
  record.config["model"]["path"] = "build/models/SmolLM2-135M-Instruct.gguf";
  record.head.content_hash = "smol2";
  write_record(folder_ / "smol2/x.h5", record);
  const auto near = [&](const std::string& model) {
    return test::run_report({"table", "table1", (folder_ / "smol2").string(), "--json", "--paper-model", model});
  };
  const Json rows = near("SmolLM-135M").json()["rows"];
  ASSERT_EQ(rows.size(), 7u) << "ours, the paper's, the difference, and the paper's four others of that model";
  EXPECT_EQ(rows[0]["model"], "SmolLM2-135M-Instruct.gguf");
  EXPECT_EQ(rows[1]["values"]["mmlu"]["mean"], 28.66);
  EXPECT_NEAR(rows[2]["values"]["mmlu"]["mean"].get<double>(), 30 - 28.66, kExact);
  for (std::size_t i = 3; i < rows.size(); ++i) EXPECT_EQ(rows[i]["model"], "SmolLM-135M");
  const auto unknown = near("SmolLM-125M");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("--paper-model: no 'SmolLM-125M'; did you mean 'SmolLM-135M'?"));
  const auto none = test::run_report({"table", (folder_ / "smol2").string(), "--paper-model", "SmolLM-135M"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("--paper-model: the table has no numbers of the paper"));
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

TEST_F(Pivot, ErrorsOfSeedsAndSamplesTogether) {
  const std::vector<std::string> options = {"--row",   "rope_name",      "--row", "d_kv",
                                            "--where", "method=mha2mla", "--json"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), options.begin(), options.end());
    return pivot(more).json();
  };
  const Json seeds = with({"--metric", "perplexity/nll"}),
             both = with({"--metric", "perplexity/nll", "--errors", "both"});
  std::vector<std::vector<double>> samples;
  for (const RunRecord& record : records_) {
    if (record.head.cell.find("rope.name=high,pairs=2,d_kv=4") == std::string::npos) continue;
    for (const ScoreRecord& score : record.evaluation) {
      if (score.stage == "fine_tuned" && score.metric == "nll") samples.push_back(score.per_sample);
    }
  }
  ASSERT_EQ(samples.size(), 3u);
  const CombinedRuns expected = combine_runs(samples, {});
  const Json &a = seeds["rows"][0]["values"]["perplexity/nll"], &b = both["rows"][0]["values"]["perplexity/nll"];
  EXPECT_NEAR(a["standard_error"].get<double>(), expected.error_of_runs, kExact);
  EXPECT_NEAR(b["standard_error"].get<double>(), expected.standard_error, 1e-9);
  EXPECT_NEAR(b["standard_error_over_samples"].get<double>(), expected.error_of_samples, 1e-9);
  EXPECT_GT(b["standard_error"], a["standard_error"]);
  // A perplexity takes its NLL's samples: d exp(x) = exp(x) dx.
  const Json perplexity = with({"--metric", "perplexity/perplexity", "--errors", "both"})["rows"][0]["values"];
  const Json& value = perplexity["perplexity/perplexity"];
  EXPECT_NEAR(value["standard_error_over_samples"].get<double>(),
              value["mean"].get<double>() * expected.error_of_samples, 1e-9);
  EXPECT_EQ(pivot({"--errors", "bth"}).exit_code, 2);
}

/// Compiles the tables of a document; the log of what went wrong, or of overfull lines.
std::string compile(const test::TemporaryFolder& folder, const std::string& tables) {
  folder.write("all.tex",
               "\\documentclass{article}\\usepackage{graphicx}\\begin{document}\n" + tables + "\\end{document}\n");
  const std::string command =
      "cd " + folder.path().string() + " && pdflatex -interaction=nonstopmode -halt-on-error all.tex >log 2>&1";
  const bool failed = std::system(command.c_str()) != 0;
  const std::string log = read_file(folder / "log");
  return failed || log.find("Overfull") != std::string::npos || log.find("too large") != std::string::npos ? log : "";
}

TEST_F(Pivot, LatexOfEveryPresetCompilesAndFitsThePage) {
  if (std::system("command -v pdflatex >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "pdflatex is not installed (texlive-latex-base)";
  std::string tables;
  for (const std::string& preset : preset_names())
    tables += test::run_report({"table", preset, folder_.path().string(), "--format", "latex"}).out;
  // The paper's rows alone: more than a page of them.
  const auto nothing = folder_ / "nothing";
  std::filesystem::create_directories(nothing);
  for (const char* preset : {"table1", "table2", "table3"})
    tables += test::run_report({"table", preset, nothing.string(), "--format", "latex"}).out;
  tables += pivot({"--row", "rope_name", "--row", "settings", "--column", "d_kv", "--metric", "perplexity", "--metric",
                   "accuracy_normalized", "--where", "d_kv=4,8", "--format", "latex"})
                .out;
  EXPECT_EQ(compile(folder_, tables), "");
}

TEST_F(Pivot, LatexOfAnyTextCompiles) {
  if (std::system("command -v pdflatex >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "pdflatex is not installed (texlive-latex-base)";
  RunRecord record = test::synthetic_record({"high", "joint_svd", 2, 4, 7});
  record.head.cell = "strange";
  record.head.content_hash = "strange";
  record.head.experiment = "_ % & # $ { } ~ ^ \\ \"q\" `b' <a|b> --x ± é ü ñ → ≤ 中 😀 \xff";
  write(record);
  const std::string table =
      pivot({"--row", "experiment", "--metric", "perplexity", "--title", "50 % of_a & b^2 \\ {x}", "--format", "latex"})
          .out;
  EXPECT_THAT(table, AllOf(HasSubstr("\\_ \\% \\& \\# \\$ \\{ \\}"), HasSubstr("U+4E2D"), HasSubstr("$\\pm$")));
  EXPECT_EQ(compile(folder_, table), "");
}

/// Answers to LongBench through a codec, as a cell leaves them.
RunRecord longbench_record(const std::string& codec, int bits, bool compressed, double score) {
  RunRecord record;
  record.head = {RunStatus::kComplete, "", "longbench", cat(codec, bits, compressed), cat(codec, bits, compressed), ""};
  record.config = {{"model", {{"path", "models/SmolLM-1.7B"}}}, {"compress", Json::array()}};
  if (codec != "none")
    record.config["cache"] = {{"codec", {{"name", codec}, {"bits", bits}}}, {"update", "append_only"}};
  record.overrides = {{"cache.codec", codec}};
  const auto add = [&](const std::string& stage, const std::string& tail, double value) {
    record.evaluation.push_back(
        test::synthetic_score(stage, "longbench.hotpotqa" + tail, "score", value, {value}, true));
    record.evaluation.back().unit = "0..1";
  };
  const auto add_stage = [&](const std::string& stage, double value) {
    add(stage, "", stage == std::string("source") ? 0.25 : 0.23);  // the same model, whatever codec its cache has
    if (codec != "none") add(stage, ", cached", value);
  };
  add_stage("source", score);
  if (!compressed) return record;
  record.config["compress"] = Json::array({{{"name", "mha2mla"},
                                            {"rope", {{"name", "two_norm"}, {"pairs", 4}}},
                                            {"low_rank", {{"name", "joint_svd"}, {"d_kv", 16}}}}});
  add_stage("fine_tuned", score - 0.02);
  LayerRecord layer;
  layer.cached_elements = 3;
  layer.cached_elements_before = 16;
  record.compression = {layer};
  return record;
}

TEST(PaperTables, OurCodecsStandBesideThePapers) {
  const test::TemporaryFolder folder;
  const auto write = [&](const RunRecord& record) { write_record(folder / (record.head.cell + ".h5"), record); };
  write(longbench_record("hqq", 4, true, 0.20));
  write(longbench_record("quanto", 2, false, 0.12));
  write(longbench_record("kivi", 4, true, 0.19));
  write(longbench_record("none", 16, true, 0.25));
  const Json rows = test::run_report({"table", "table2", folder.path().string(), "--json"}).json()["rows"];
  /// The row of ours, and those that follow it.
  const auto beside = [&](const char* precision, const char* stage) {
    for (std::size_t i = 0; i + 2 < rows.size(); ++i) {
      const Json& row = rows[i];
      if (row["numbers"] == "ours" && row["precision"] == precision && row["stage"] == stage)
        return std::array{row, rows[i + 1], rows[i + 2]};
    }
    ADD_FAILURE() << precision << " " << stage << " is not in the table";
    return std::array<Json, 3>();
  };
  const auto mean = [](const Json& row) { return row["values"]["hotpotqa"]["mean"].get<double>(); };
  struct Expected {
    const char *precision, *stage, *paper;
    double saved, ours;
  };
  for (const Expected& expected : {Expected{"Int4 HQQ", "source", "Int4 HQQ", 75, 20},
                                   {"Int4 HQQ", "fine_tuned", "Int4 HQQ", 95.3125, 18},
                                   {"Int2 Quanto", "source", "Int2 Quanto", 87.5, 12},
                                   {"as computed", "fine_tuned", "BF16", 81.25, 23}}) {
    SCOPED_TRACE(cat(expected.precision, " ", expected.stage));
    const auto [ours, paper, difference] = beside(expected.precision, expected.stage);
    EXPECT_NEAR(ours["nominal_saved_percent"].get<double>(), expected.saved, 1e-9);
    EXPECT_EQ(paper["numbers"], "paper");
    EXPECT_EQ(paper["precision"], expected.paper);
    EXPECT_EQ(paper["model"], "SmolLM-1.7B");
    EXPECT_NEAR(mean(ours), expected.ours, 1e-9);
    EXPECT_NEAR(mean(difference), mean(ours) - mean(paper), 1e-9);
  }
  const auto as_computed = std::count_if(rows.begin(), rows.end(), [](const Json& row) {
    return row["numbers"] == "ours" && row["precision"] == "as computed";
  });
  EXPECT_EQ(as_computed, 2) << "once for the source and once for the converted model, not once for each codec";
  // A codec that the paper has not stands by itself.
  EXPECT_NE(beside("Int4 KIVI", "fine_tuned")[1]["values"], Json());
  EXPECT_NE(beside("Int4 KIVI", "fine_tuned")[1]["precision"], "Int4 KIVI");
}

TEST_F(Pivot, ATableConfigIsAFile) {
  const auto config =
      folder_.write("mine.json",
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
