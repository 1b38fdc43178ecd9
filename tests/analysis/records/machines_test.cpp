// Runs of one config on several machines, by several programs, in several folders, over many seeds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cmath>
#include <sstream>

#include "analysis/figures/figure.h"
#include "core/base/file.h"
#include "tests/analysis/run_report.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Machines : public testing::Test {
 protected:
  /// A run of one cell on a machine that keeps its data in `root`.
  static RunRecord run(int seed, const std::string& root, const std::string& data = "same") {
    RunRecord record = test::synthetic_record({"high", "joint_svd", 2, 8, seed});
    record.config["model"]["path"] = root + "/models/toy";
    record.config["train"]["data"]["files"] = {root + "/text/part.jsonl"};
    record.config["results"] = root + "/results";
    record.provenance.data_hashes = {{"model/model.safetensors", "weights"}, {"train[0]", data}};
    return record;
  }
  void write(const RunRecord& record, const std::string& machine = "one") const {
    write_record(folder_ / "results" / machine / (record.head.cell + ".h5"), record);
  }
  std::string results() const { return (folder_ / "results").string(); }
  std::optional<Figure> draw(const std::string& name) const {
    const RecordSet set = read_records({folder_ / "results"});
    const FigureInput input = figure_input(set, {});
    for (const FigureKind& kind : figure_kinds()) {
      if (kind.name == name) return kind.draw(input);
    }
    return {};
  }
  Json table() const { return test::run_report({"table", results(), "--json"}).json(); }

  test::TemporaryFolder folder_;
};

TEST_F(Machines, SeedsOfTwoMachinesAreOneGroup) {
  for (const int seed : {1, 2}) write(run(seed, "/home/ann"));
  for (const int seed : {3, 4}) write(run(seed, "/scratch/bob/big"), "two");
  const RecordSet set = read_records({folder_ / "results"});
  const FigureInput input = figure_input(set, {});
  ASSERT_EQ(input.groups.size(), 1u);
  EXPECT_EQ(input.groups[0].runs.size(), 4u);
  ASSERT_EQ(table()["rows"].size(), 2u) << "the source model and the cell";
  EXPECT_EQ(table()["rows"][1]["runs"], 4);
  const auto free = test::run_report({"table", results(), "--row", "rope", "--metric", "perplexity"});
  EXPECT_THAT(free.out, Not(HasSubstr("differ in: ")));
  // The same names, but other content: not the same config.
  write(run(5, "/home/ann", "other"));
  const RecordSet more = read_records({folder_ / "results"});
  EXPECT_EQ(figure_input(more, {}).groups.size(), 2u);
  EXPECT_EQ(table()["rows"].size(), 3u);
}

TEST_F(Machines, EarlierProgramsHashedFewerFilesOfAModel) {
  write(run(1, "/a"));
  RunRecord later = run(2, "/b");
  later.provenance.data_hashes["model/tokenizer.json"] = "tokens";
  write(later);
  const RecordSet set = read_records({folder_ / "results"});
  EXPECT_EQ(figure_input(set, {}).groups.size(), 1u);
}

TEST_F(Machines, FiguresAndPlannerCountCopiesOnceAsTablesDo) {
  for (const int seed : {1, 2}) write(run(seed, "/home/ann"));
  RunRecord copy = run(1, "/scratch/bob");  // the same content hash
  write(copy, "two");
  const RecordSet set = read_records({folder_ / "results"});
  const FigureInput input = figure_input(set, {});
  ASSERT_EQ(input.groups.size(), 1u);
  EXPECT_EQ(input.groups[0].runs.size(), 2u);
  ASSERT_EQ(input.left_out.size(), 1u);
  EXPECT_THAT(input.left_out[0], HasSubstr("the same run as"));
  const Json row = table()["rows"][1]["values"]["perplexity"];
  const auto value = quality_of(input.groups[0], *input.quality);
  ASSERT_TRUE(value && value->error);
  EXPECT_EQ(value->mean, row["mean"]);
  EXPECT_EQ(*value->error, row["standard_error"]);
  const Json plan = test::run_report({"planner", results(), "--saved", "10", "--json"}).json();
  EXPECT_EQ(plan["recommended"]["runs"], 2);
  EXPECT_EQ(plan["recommended"]["standard_error"], row["standard_error"]);
}

TEST_F(Machines, AverageAccuraciesHaveTheErrorOfTables) {
  RunRecord record = run(1, "/a");
  std::erase_if(record.evaluation, [](const ScoreRecord& score) { return score.task == "perplexity"; });
  write(record);
  const RecordSet set = read_records({folder_ / "results"});
  const FigureInput input = figure_input(set, {});
  const auto value = quality_of(input.groups[0], *input.quality);
  const Json row = table()["rows"][1]["values"]["average"];
  ASSERT_TRUE(value && value->error);
  EXPECT_NEAR(value->mean, row["mean"].get<double>(), 1e-9);
  EXPECT_NEAR(*value->error, row["standard_error"].get<double>(), 1e-9);
  for (ScoreRecord& score : record.evaluation) score.standard_error.reset();
  write(record);
  const RecordSet unknown = read_records({folder_ / "results"});
  EXPECT_FALSE(quality_of(figure_input(unknown, {}).groups[0], *input.quality)->error) << "unknown is not zero";
}

TEST_F(Machines, EverySeedIsInTheFigure) {
  constexpr int kSeeds = 17;
  for (int seed = 1; seed <= kSeeds; ++seed) {
    RunRecord record = run(seed, "/a");
    for (double& loss : record.training.loss) loss = seed;  // constant, so that an average of it is itself
    write(record);
  }
  auto figure = draw("loss");
  ASSERT_TRUE(figure);
  const std::size_t heading = figure->data.find(cat(", ", kSeeds, " runs\n"));
  ASSERT_NE(heading, std::string::npos) << figure->data.substr(0, 200);
  std::istringstream line(figure->data.substr(figure->data.find('\n', heading) + 1));
  double step = 0, mean = 0;
  line >> step >> mean;
  EXPECT_NEAR(mean, (1 + kSeeds) / 2.0, 1e-9);
  EXPECT_THAT(figure->caption, HasSubstr("over seeds, up to 17 of a config"));
  EXPECT_THAT(figure->caption, Not(HasSubstr("of different lengths")));
  RunRecord stopped = run(kSeeds + 1, "/a");
  for (auto* series : {&stopped.training.loss, &stopped.training.learning_rate, &stopped.training.gradient_norm})
    series->resize(3);
  stopped.training.step.resize(3);
  stopped.training.tokens.resize(3);
  write(stopped);
  figure = draw("loss");
  EXPECT_THAT(figure->caption, HasSubstr("where runs of one config are of different lengths"));
}

TEST_F(Machines, MixedProgramsAreTold) {
  for (const int seed : {1, 2}) write(run(seed, "/a"));
  EXPECT_THAT(test::run_report({"table", results()}).out, Not(HasSubstr("several programs")));
  RunRecord later = run(3, "/a");
  later.provenance.numerics_version = 2;
  later.provenance.git_hash = "fedcba9876543210";
  later.provenance.git_dirty = true;
  write(later);
  const std::string line =
      "records of several programs: numerics versions 1 (2 records), 2 (1), whose numbers differ; commits 0123456789 "
      "(2 "
      "records), fedcba9876 with changes (1)\n";
  EXPECT_THAT(test::run_report({"table", results(), "--row", "rope", "--metric", "perplexity"}).out, HasSubstr(line));
  EXPECT_THAT(test::run_report({"planner", results(), "--saved", "10"}).out, HasSubstr(line));
  EXPECT_THAT(test::run_report({"compare", results(), results()}).out, HasSubstr("before: " + line));
  const std::string page = (folder_ / "x.html").string();
  ASSERT_EQ(test::run_report({"html", results(), "--output", page}).exit_code, 0);
  EXPECT_THAT(read_file(page), HasSubstr(line.substr(0, line.size() - 1)));
  const RecordSet set = read_records({folder_ / "results"});
  EXPECT_EQ(figure_input(set, {}).mixed + "\n", line);
}

TEST_F(Machines, ThePapersRowsStayWithOursWhenSorted) {
  for (const int d_kv : {8, 16}) {
    RunRecord record = test::synthetic_record({"two_norm", "joint_svd", 4, d_kv, 1});
    record.config["model"]["path"] = "/models/SmolLM-135M";
    for (LayerRecord& layer : record.compression) layer.cached_elements = d_kv == 16 ? 48 : 32;
    record.cache.clear();
    record.evaluation.clear();
    for (const char* task : {"mmlu", "arc_easy", "arc_challenge", "piqa"})
      record.evaluation.push_back(
          test::synthetic_score("fine_tuned", task, "accuracy_normalized", 0.3 + d_kv / 100.0, {}, true));
    write(record);
  }
  for (const char* order : {"mmlu", "mmlu:desc", "saved_percent", "saved_percent:desc"}) {
    SCOPED_TRACE(order);
    const Json rows = test::run_report({"table", "table1", results(), "--sort", order, "--json"}).json()["rows"];
    std::size_t compared = 0, ours = 0;
    double last = order == std::string("mmlu") ? -1e9 : 1e9;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ours += rows[i]["numbers"] == "ours";
      if (rows[i]["numbers"] != "difference") continue;
      ++compared;
      ASSERT_GE(i, 2u);
      EXPECT_EQ(rows[i - 1]["numbers"], "paper");
      EXPECT_EQ(rows[i - 2]["numbers"], "ours");
      for (const auto& [column, value] : rows[i]["values"].items()) {
        EXPECT_NEAR(
            value["mean"].get<double>(),
            rows[i - 2]["values"][column]["mean"].get<double>() - rows[i - 1]["values"][column]["mean"].get<double>(),
            1e-9);
      }
    }
    EXPECT_EQ(ours, 2u);
    EXPECT_GE(compared, 1u);
    for (const Json& row : rows) {
      if (row["numbers"] != "ours" || std::string(order).starts_with("saved")) continue;
      const double value = row["values"]["mmlu"]["mean"];
      EXPECT_TRUE(order == std::string("mmlu") ? value >= last : value <= last);
      last = value;
    }
  }
}

TEST_F(Machines, AnnotatedRecordsAreReadAndTold) {
  const RunRecord record = run(1, "/a");
  write(record);
  write(run(2, "/b"));
  const fs::path path = folder_ / "results/one" / (record.head.cell + ".h5");
  const Json before = table();
  // As any program that opens a record for writing: HDF5 cuts off what stands after its content.
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), space = H5Screate(H5S_SCALAR);
  H5Aclose(H5Acreate2(file, "note", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT));
  H5Sclose(space);
  H5Fclose(file);
  EXPECT_EQ(table(), before);
  const auto verified = test::run_report({"verify", results()});
  EXPECT_EQ(verified.exit_code, 0) << verified.out;
  EXPECT_THAT(verified.out,
              AllOf(HasSubstr("annotated: "), HasSubstr("1 additions by another program"), HasSubstr("/@note"),
                    HasSubstr("2 records, 0 problems, 0 incomplete, 1 annotated\n")));
  EXPECT_EQ(test::run_report({"verify", results(), "--json"}).json()["annotated"].size(), 1u);
  EXPECT_EQ(test::run_report({"repair", results(), "--json"}).json()["whole"], 2);
}

}  // namespace
}  // namespace mla
