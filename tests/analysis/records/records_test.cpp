// Records that are foreign, cut, half-written, of another version or read-only, and the commands that look after them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/store/hdf5_file.h"
#include "core/store/record_outline.h"
#include "tests/analysis/run_report.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class Records : public testing::Test {
 protected:
  void SetUp() override {
    for (const int seed : {1, 2}) write(test::synthetic_record({"high", "joint_svd", 2, 8, seed}));
  }
  fs::path write(const RunRecord& record) const {
    const fs::path path = folder_ / ("results/sweep/" + record.head.cell + ".h5");
    write_record(path, record);
    return path;
  }
  std::string results() const { return (folder_ / "results").string(); }
  /// Every file below the results with its content.
  std::string content() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "results")) {
      if (entry.is_regular_file()) all.push_back(cat(entry.path().string(), " ", hash_file(entry.path()), "\n"));
    }
    std::sort(all.begin(), all.end());
    std::string text;
    for (const std::string& line : all) text += line;
    return text;
  }
  /// Writes every kind of file that is no whole record.
  void spoil() const {
    const RunRecord other = test::synthetic_record({"low", "joint_svd", 2, 8, 1});
    const std::string whole = read_file(write(other));
    fs::remove(folder_ / ("results/sweep/" + other.head.cell + ".h5"));
    folder_.write("results/sweep/cut.h5", whole.substr(0, whole.size() / 2));
    folder_.write("results/sweep/empty.h5", "");
    folder_.write("results/sweep/text.h5", "not HDF5");
    std::string flipped = whole;
    flipped[flipped.size() / 3] = static_cast<char>(flipped[flipped.size() / 3] ^ 1);
    folder_.write("results/sweep/flipped.h5", flipped);
    Hdf5File::create("other").save(folder_ / "results/sweep/foreign.h5");
    Hdf5File version = Hdf5File::create("x");
    version.set_attribute("/", "format", std::string("mlaforge run record"));
    version.set_attribute("/", "version", std::int64_t{0});
    version.save(folder_ / "results/sweep/older.h5");
    folder_.write("results/sweep/late.h5.elsewhere.123.0.tmp", whole.substr(0, 1000));
  }

  test::TemporaryFolder folder_;
};

TEST_F(Records, WhatIsNoRecordIsNamedAndCounted) {
  spoil();
  const std::string before = content();
  for (const char* format : {"terminal", "markdown"}) {
    const auto result = test::run_report({"table", results(), "--format", format});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    for (const char* file : {"cut.h5", "empty.h5", "text.h5", "flipped.h5", "foreign.h5", "older.h5", "late.h5."}) {
      EXPECT_THAT(result.out, HasSubstr(file));
    }
    EXPECT_THAT(result.out, HasSubstr("7 left out"));
  }
  EXPECT_EQ(test::run_report({"table", results(), "--json"}).json()["left_out_count"], 7);
  EXPECT_THAT(test::run_report({"summary", results()}).out, HasSubstr("2 records, 7 skipped"));
  EXPECT_THAT(test::run_report({"export", results()}).err, HasSubstr("older.h5"));
  EXPECT_EQ(test::run_report(
                {"figure", "layer_error", results(), "--output", (folder_ / "figures").string(), "--format", "svg"})
                .exit_code,
            std::system("command -v gnuplot >/dev/null 2>&1") == 0 ? 0 : 3);
  EXPECT_EQ(content(), before) << "reports change nothing";
}

TEST_F(Records, ReadOnlyFoldersAreRead) {
  fs::permissions(folder_ / "results/sweep", fs::perms::owner_read | fs::perms::owner_exec);
  for (const auto& entry : fs::directory_iterator(folder_ / "results/sweep"))
    fs::permissions(entry.path(), fs::perms::owner_read);
  EXPECT_EQ(test::run_report({"table", results()}).exit_code, 0);
  EXPECT_EQ(test::run_report({"verify", results()}).exit_code, 0);
  fs::permissions(folder_ / "results/sweep", fs::perms::owner_all);
}

TEST_F(Records, TheOutlineSaysWhatTheGroupsSay) {
  const fs::path path = write(test::synthetic_record({"two_norm", "split_svd", 1, 4, 3}));
  OutlineParts all;
  all.provenance = true;
  const RecordOutline note = read_outline(path), groups = read_outline_from_groups(path, all);
  EXPECT_FALSE(Hdf5File::read_note(path).empty());
  EXPECT_EQ(note, groups);
  EXPECT_EQ(note.evaluation.size(), 15u);
  const RunRecord record = read_record(path);
  for (std::size_t i = 0; i < record.evaluation.size(); ++i)
    EXPECT_EQ(note.evaluation[i].value, record.evaluation[i].value);
}

TEST_F(Records, NumbersThatAreNotFiniteStayInOutlines) {
  RunRecord record = test::synthetic_record({});
  record.evaluation[0].value = std::nan("");
  record.evaluation[1].value = std::numeric_limits<double>::infinity();
  record.compression[0].joint_error = std::nan("");
  const RecordOutline outline = read_outline(write(record));
  EXPECT_TRUE(std::isnan(outline.evaluation[0].value));
  EXPECT_TRUE(std::isinf(outline.evaluation[1].value));
  EXPECT_TRUE(std::isnan(outline.layers[0].at("joint_error").get<double>()));
}

TEST_F(Records, VerifyFindsWhatIsWrongAndWhatIsMissing) {
  EXPECT_EQ(test::run_report({"verify", results()}).exit_code, 0);
  spoil();
  RunRecord wrong = test::synthetic_record({"uniform", "joint_svd", 2, 8, 1});
  wrong.cache[0].counted_bytes += 1;
  write(wrong);
  folder_.write("results/sweep/plan.json",
                R"({"experiment": "sweep", "cells": [{"cell": "never run", "content_hash": "00"}]})");
  folder_.write("results/.cells/00/record", "sweep/gone.h5");
  const auto result = test::run_report({"verify", results(), "--json"});
  EXPECT_EQ(result.exit_code, 3);
  const Json json = result.json();
  EXPECT_EQ(json["problems"].size(), 7u) << json.dump(1);
  EXPECT_EQ(json["incomplete"].size(), 3u) << json.dump(1);
  EXPECT_THAT(json.dump(),
              AllOf(HasSubstr("bytes predicted"), HasSubstr("never run"), HasSubstr("gone.h5"), HasSubstr("checksum")));
}

TEST_F(Records, VerifySeesAnOutlineThatDiffers) {
  const fs::path path = write(test::synthetic_record({"uniform", "joint_svd", 2, 8, 1}));
  const RunRecord other = test::synthetic_record({"uniform", "joint_svd", 2, 4, 1});
  Hdf5File::open(path).save(path, Hdf5File::read_note(write(other)));
  EXPECT_THAT(test::run_report({"verify", path.string()}).out, HasSubstr("the outline after the HDF5 content differs"));
}

TEST_F(Records, RepairMendsWhatCanBeMended) {
  const RunRecord record = test::synthetic_record({"low", "joint_svd", 2, 8, 1});
  const fs::path path = write(record);
  const std::string whole = read_file(path);
  const fs::path cut_end = folder_.write("results/sweep/cut_end.h5", whole.substr(0, whole.size() - 20));
  const fs::path cut = folder_.write("results/sweep/cut.h5", whole.substr(0, whole.size() * 3 / 5));
  const fs::path text = folder_.write("results/sweep/text.h5", "not HDF5");
  const fs::path half = folder_.write("results/sweep/new.h5.elsewhere.123.0.tmp", whole);
  fs::last_write_time(half, fs::file_time_type::clock::now() - std::chrono::hours(2));
  const std::string before = content();
  EXPECT_EQ(test::run_report({"repair", results(), "--dry-run"}).exit_code, 3);
  EXPECT_EQ(content(), before);
  const auto result = test::run_report({"repair", results(), "--json"});
  EXPECT_EQ(result.exit_code, 3) << "one is hopeless";
  EXPECT_EQ(result.json()["repaired"], 2) << result.out;
  EXPECT_EQ(result.json()["salvaged"], 1) << result.out;
  EXPECT_EQ(result.json()["hopeless"], 1) << result.out;
  EXPECT_EQ(read_record(cut_end), record);
  EXPECT_EQ(read_record(folder_ / "results/sweep/new.h5"), record);
  EXPECT_TRUE(fs::exists(cut.string() + ".damaged"));
  const RunRecord salvaged = read_record(cut);
  EXPECT_EQ(salvaged.head.status, RunStatus::kInterrupted);
  EXPECT_THAT(salvaged.head.message, HasSubstr("cut after"));
  EXPECT_EQ(salvaged.config, record.config);
  for (const ScoreRecord& score : salvaged.evaluation) {
    EXPECT_NE(std::find(record.evaluation.begin(), record.evaluation.end(), score), record.evaluation.end())
        << score.task;
  }
  EXPECT_EQ(read_file(text), "not HDF5");
}

TEST_F(Records, GcRemovesWhatTheDeadLeft) {
  const auto old = folder_.write("results/.cells/aa/state.h5.elsewhere.1.0.tmp", "x");
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(2));
  const auto young = folder_.write("results/sweep/a.h5.elsewhere.1.0.tmp", "x");
  const auto mine = temporary_name(folder_ / "results/sweep/b.h5");
  folder_.write("results/sweep/" + mine.filename().string(), "x");
  const auto lost = folder_.write("results/.cells/bb/record", "sweep/gone.h5");
  EXPECT_EQ(test::run_report({"gc", results(), "--dry-run", "--json"}).json()["removed"].size(), 2u);
  EXPECT_TRUE(fs::exists(old));
  const Json json = test::run_report({"gc", results(), "--json"}).json();
  EXPECT_EQ(json["removed"].size(), 2u);
  EXPECT_EQ(json["kept"], 2);
  EXPECT_FALSE(fs::exists(old));
  EXPECT_FALSE(fs::exists(lost.parent_path()));
  EXPECT_TRUE(fs::exists(young) && fs::exists(mine));
  EXPECT_EQ(test::run_report({"table", results()}).exit_code, 0);
}

TEST_F(Records, MergeUnitesFoldersAndRefusesConflicts) {
  const fs::path second = folder_ / "second/sweep";
  const RunRecord third = test::synthetic_record({"high", "joint_svd", 2, 8, 3});
  write_record(second / (third.head.cell + ".h5"), third);
  const RunRecord first = test::synthetic_record({"high", "joint_svd", 2, 8, 1});
  write_record(second / (first.head.cell + ".h5"), first);  // the same run as in results
  folder_.write("second/sweep/plan.json",
                R"({"experiment": "sweep", "cells": [{"cell": "waiting", "content_hash": "11"}]})");
  const std::string out = (folder_ / "all").string();
  const Json json =
      test::run_report({"merge", results(), (folder_ / "second").string(), "--output", out, "--json"}).json();
  EXPECT_EQ(json["copied"], 3);
  EXPECT_EQ(json["already_there"], 1);
  EXPECT_EQ(read_record(fs::path(out) / "sweep" / (third.head.cell + ".h5")), third);
  EXPECT_EQ(read_file(fs::path(out) / ".cells" / third.head.content_hash / "record"),
            "sweep/" + third.head.cell + ".h5");
  EXPECT_THAT(read_json(fs::path(out) / "sweep/plan.json").dump(), AllOf(HasSubstr("waiting"), HasSubstr("seed=2")));
  EXPECT_EQ(test::run_report({"merge", results(), "--output", out, "--json"}).json()["copied"], 0)
      << "again: nothing to do";

  RunRecord conflict = first;
  conflict.head.content_hash = "another";
  write_record(folder_ / ("third/sweep/" + first.head.cell + ".h5"), conflict);
  const std::string third_folder = (folder_ / "third").string();
  const auto refused = test::run_report({"merge", third_folder, "--output", out});
  EXPECT_EQ(refused.exit_code, 3);
  EXPECT_THAT(refused.err, HasSubstr("--rename keeps both"));
  EXPECT_EQ(test::run_report({"merge", third_folder, "--output", out, "--rename", "--json"}).json()["copied"], 1);
  EXPECT_TRUE(fs::exists(fs::path(out) / "sweep" / (first.head.cell + "@another.h5")));
}

TEST_F(Records, ExportHasOneLinePerValue) {
  const std::string scores = test::run_report({"export", results()}).out;
  EXPECT_EQ(std::count(scores.begin(), scores.end(), '\n'), 1 + 2 * 15);
  EXPECT_THAT(
      scores,
      HasSubstr(
          "experiment,cell,status,content_hash,model,compress[0].low_rank.name,compress[0].rope.name,compress[0].rope."
          "pairs,"
          "compress[0].low_rank.d_kv,train.seed,stage,task,metric,value,standard_error,n,unit,higher_is_better\n"));
  const RunRecord record = test::synthetic_record({"high", "joint_svd", 2, 8, 1});
  const Json training = test::run_report({"export", results(), "--what", "training", "--format", "json"}).json();
  ASSERT_EQ(training.size(), 40u);
  EXPECT_EQ(training[3]["loss"], record.training.loss[3]);
  const std::string samples = test::run_report({"export", results(), "--what", "samples", "--format", "jsonl"}).out;
  EXPECT_EQ(std::count(samples.begin(), samples.end(), '\n'), 2 * 3 * 4 * 40);
  for (const char* what : {"layers", "spectra", "numbers"})
    EXPECT_EQ(test::run_report({"export", results(), "--what", what}).exit_code, 0);
  EXPECT_EQ(test::run_report({"export", results(), "--what", "sample"}).exit_code, 2);
  const fs::path file = folder_ / "out.csv";
  EXPECT_EQ(test::run_report({"export", results(), "--output", file.string()}).out, "");
  EXPECT_EQ(read_file(file), scores);
}

TEST_F(Records, CompareFindsWhatBecameWorse) {
  const fs::path after = folder_ / "after/sweep";
  for (const int seed : {1, 2}) {
    RunRecord record = test::synthetic_record({"high", "joint_svd", 2, 8, seed});
    record.provenance.git_hash = "fedcba";
    record.config["train"]["steps"] = 30;
    for (ScoreRecord& score : record.evaluation) {
      if (score.stage != "fine_tuned" || score.metric != "nll") continue;
      for (double& sample : score.per_sample) sample += 0.01;  // far less than the spread between documents
      score.value += 0.01;
    }
    write_record(after / (record.head.cell + ".h5"), record);
  }
  const auto same = test::run_report({"compare", results(), results(), "--json", "--fail-on-worse"});
  EXPECT_EQ(same.exit_code, 0);
  EXPECT_EQ(same.json()["worse"], 0);
  EXPECT_EQ(same.json()["same"], same.json()["comparisons"].size());
  const auto worse =
      test::run_report({"compare", results(), (folder_ / "after").string(), "--json", "--fail-on-worse"});
  EXPECT_EQ(worse.exit_code, 1);
  const Json json = worse.json();
  EXPECT_EQ(json["worse"], 2) << json.dump(1);
  const Json& first = json["comparisons"][0];
  EXPECT_EQ(first["verdict"], "worse");
  EXPECT_EQ(first["metric"], "nll");
  EXPECT_EQ(first["samples"], 40);
  EXPECT_NEAR(first["difference"].get<double>(), 0.01, 1e-9);
  EXPECT_NEAR(first["low"].get<double>(), 0.01, 1e-9) << "paired: every sample rose by as much";
  EXPECT_THAT(json["cells"][0]["config_differences"].dump(), HasSubstr("train.steps: 20 -> 30"));
  EXPECT_THAT(json["provenance"].dump(), HasSubstr("fedcba"));
  EXPECT_EQ(json, test::run_report({"compare", results(), (folder_ / "after").string(), "--json"}).json())
      << "the same again";
  const auto commits =
      test::run_report({"compare", results(), (folder_ / "after").string(), "--commits", "0123", "fedc", "--json"});
  EXPECT_EQ(commits.json()["worse"], 2) << commits.err;
  EXPECT_EQ(test::run_report({"compare", results()}).exit_code, 2);
}

}  // namespace
}  // namespace mla
