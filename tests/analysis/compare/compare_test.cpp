// What `compare` pairs, how sure it is, and what it does with many tests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/statistics.h"
#include "tests/analysis/run_report.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kDocuments = 60, kTokens = 20;

/// Scores of a text by tokens, with everything that is computed from them, as an evaluation leaves them.
void add_text(RunRecord& record, const std::string& stage, std::uint64_t seed, double worse) {
  RandomStream common(1, "documents"), own(seed, stage);
  std::vector<double> nll, kl;
  std::vector<std::int64_t> groups(kDocuments, kTokens);
  for (int document = 0; document < kDocuments; ++document) {
    const double hard = 3 + common.normal(), extra = worse + 0.02 * own.normal();
    for (int token = 0; token < kTokens; ++token) {
      nll.push_back(hard + extra + 0.3 * common.normal() + 0.1 * own.normal());
      kl.push_back(std::exp(-4 + 2 * worse + common.normal() + 0.1 * own.normal()));
    }
  }
  const Estimate mean = grouped_mean(nll, groups);
  const auto add = [&](const std::string& task, const std::string& metric, double value, double error,
                       std::vector<double> samples) {
    record.evaluation.push_back(test::synthetic_score(stage, task, metric, value, std::move(samples), false));
    record.evaluation.back().standard_error = error;
    if (!record.evaluation.back().per_sample.empty()) record.evaluation.back().group_sizes = groups;
  };
  add("text", "nll", mean.value, mean.standard_error, nll);
  add("text", "perplexity", std::exp(mean.value), std::exp(mean.value) * mean.standard_error, {});
  add("text", "bits_per_byte", 0.4 * mean.value, 0.4 * mean.standard_error, {});
  const Estimate distance = grouped_mean(kl, groups);
  add("distance", "kl_mean", distance.value, distance.standard_error, kl);
  for (const auto& [metric, share] : {std::pair{"kl_median", 0.5}, {"kl_90", 0.9}}) {
    const Estimate quantile = grouped_quantile(kl, groups, share);
    add("distance", metric, quantile.value, quantile.standard_error, {});
  }
}

/// Two tasks of 200 items, of which `flips` that were right are wrong, and the means over both: of the evaluation
/// `both` and of a LongBench of these tasks.
void add_tasks(RunRecord& record, const std::string& stage, int flips) {
  RandomStream random(7, "items");
  double sum = 0;
  for (const char* task : {"first", "second"}) {
    std::vector<double> items(200);
    int left = flips;
    double right = 0;
    for (double& item : items) {
      item = random.uniform() < 0.6 ? 1 : 0;
      if (item == 1 && left-- > 0) item = 0;
      right += item / 200;
    }
    sum += right;
    for (const auto& [name, metric] : {std::pair{std::string(task), "accuracy"}, {cat("longbench.", task), "score"}})
      record.evaluation.push_back(test::synthetic_score(stage, name, metric, right, items, true));
  }
  for (const auto& [name, metric] : {std::pair{"both", "accuracy"}, {"longbench", "score"}})
    record.evaluation.push_back(test::synthetic_score(stage, name, metric, sum / 2, {}, true));
}

class Compare : public testing::Test {
 protected:
  static RunRecord cell(const std::string& name) {
    RunRecord record;
    record.head = {RunStatus::kComplete, "", "sweep", name, name, ""};
    record.config = {{"model", {{"path", "/models/m"}}},
                     {"cell", name},
                     {"evaluate",
                      {{{"task", "perplexity"}, {"name", "text"}},
                       {{"task", "multiple_choice"}, {"name", "first"}},
                       {{"task", "multiple_choice"}, {"name", "second"}},
                       {{"task", "mean"}, {"name", "both"}, {"of", {"first", "second"}}}}}};
    return record;
  }
  void write(const std::string& side, const RunRecord& record) const {
    write_record(folder_ / side / (record.head.cell + ".h5"), record);
  }
  test::ReportResult compare(std::vector<std::string> options = {}) const {
    options.insert(options.begin(), {"compare", (folder_ / "before").string(), (folder_ / "after").string()});
    return test::run_report(options);
  }
  static Json of(const Json& report, const std::string& task, const std::string& metric) {
    for (const Json& each : report["comparisons"]) {
      if (each["task"] == task && each["metric"] == metric) return each;
    }
    ADD_FAILURE() << task << " " << metric << " was not compared";
    return {};
  }

  test::TemporaryFolder folder_;
};

TEST_F(Compare, FunctionsOfOneMeanHaveOneVerdict) {
  for (const double worse : {0.0, 0.004, 0.02}) {
    SCOPED_TRACE(worse);
    RunRecord before = cell("a"), after = cell("a");
    add_text(before, "fine_tuned", 2, 0);
    add_text(after, "fine_tuned", 3, worse);
    write("before", before);
    write("after", after);
    const Json report = compare({"--json"}).json();
    const Json nll = of(report, "text", "nll");
    EXPECT_EQ(nll["samples"], kDocuments * kTokens);
    EXPECT_EQ(nll["groups"], kDocuments);
    for (const char* metric : {"perplexity", "bits_per_byte"}) {
      const Json other = of(report, "text", metric);
      EXPECT_EQ(other["paired"], true);
      EXPECT_EQ(other["verdict"], nll["verdict"]) << metric;
      EXPECT_EQ(other["p_value"], nll["p_value"]) << metric;
      EXPECT_NEAR(other["difference"].get<double>(), other["after"].get<double>() - other["before"].get<double>(),
                  1e-9);
      EXPECT_LT(other["low"], other["difference"]);
      EXPECT_GT(other["high"], other["difference"]);
    }
    EXPECT_EQ(nll["verdict"], worse > 0.01 ? "worse" : nll["verdict"]);
    EXPECT_EQ(of(report, "distance", "kl_mean")["paired"], true);
  }
  const Json last = compare({"--json"}).json();
  EXPECT_EQ(of(last, "text", "perplexity")["verdict"], "worse");
  const Json quantile = of(last, "distance", "kl_median");
  EXPECT_EQ(quantile["paired"], true);
  const double paired = quantile["high"].get<double>() - quantile["low"].get<double>();
  double errors = 0;
  RunRecord before = cell("a"), after = cell("a");
  add_text(before, "fine_tuned", 2, 0);
  add_text(after, "fine_tuned", 3, 0.02);
  for (const RunRecord* record : {&before, &after}) {
    for (const ScoreRecord& score : record->evaluation) {
      if (score.metric == "kl_median") errors += *score.standard_error * *score.standard_error;
    }
  }
  EXPECT_LT(paired, 0.7 * 2 * 1.96 * std::sqrt(errors)) << "what is hard for both cancels";
}

TEST_F(Compare, AveragesArePairedByTheirTasksItems) {
  RunRecord before = cell("a"), after = cell("a");
  add_tasks(before, "fine_tuned", 0);
  add_tasks(after, "fine_tuned", 6);
  write("before", before);
  write("after", after);
  const Json report = compare({"--json"}).json();
  for (const auto& [task, metric] : {std::pair{"both", "accuracy"}, {"longbench", "score"}}) {
    const Json mean = of(report, task, metric);
    EXPECT_EQ(mean["paired"], true) << mean.dump();
    EXPECT_EQ(mean["samples"], 400);
    EXPECT_NEAR(mean["difference"].get<double>(), -0.03, 1e-9);
    EXPECT_EQ(mean["verdict"], "worse") << "12 of 400 items flipped, all one way";
    EXPECT_EQ(mean["p_value"].get<double>() < 0.01, true);
  }
}

TEST_F(Compare, TextsOfSingleContinuationsPairTheirPerplexity) {
  const auto with = [&](std::uint64_t seed, double worse) {
    RunRecord record = cell("a");
    RandomStream common(1, "items"), own(seed, "own");
    std::vector<double> items(100);
    double sum = 0;
    for (double& item : items) sum += item = -20 + 3 * common.normal() - worse + 0.05 * own.normal();
    record.evaluation.push_back(
        test::synthetic_score("source", "lambada", "perplexity", std::exp(-sum / 100), {}, false));
    record.evaluation.push_back(test::synthetic_score("source", "lambada", "log_likelihood", sum / 100, items, true));
    record.evaluation.back().group_sizes.assign(100, 1);
    return record;
  };
  write("before", with(2, 0));
  write("after", with(3, 0.1));
  const Json report = compare({"--json"}).json();
  const Json perplexity = of(report, "lambada", "perplexity"), likelihood = of(report, "lambada", "log_likelihood");
  EXPECT_EQ(perplexity["verdict"], "worse");
  EXPECT_EQ(likelihood["verdict"], "worse");
  EXPECT_NEAR(perplexity["p_value"].get<double>(), likelihood["p_value"].get<double>(), 1e-6);
}

TEST_F(Compare, ItSaysWhatIsNotPairedAndWhy) {
  RunRecord before = cell("a"), after = cell("a");
  for (RunRecord* record : {&before, &after}) add_text(*record, "fine_tuned", 2, record == &before ? 0 : 0.02);
  for (RunRecord* record : {&before, &after})
    record->evaluation.push_back(test::synthetic_score("fine_tuned", "text", "nll_0_8", 3, {}, false));
  after.evaluation[0].per_sample.resize(kTokens * (kDocuments - 1));  // another text: not all of its documents
  after.evaluation[0].group_sizes.resize(kDocuments - 1);
  after.evaluation[0].value = grouped_mean(after.evaluation[0].per_sample, {}).value;
  write("before", before);
  write("after", after);
  const auto result = compare();
  EXPECT_THAT(result.out, AllOf(HasSubstr("unpaired: 1 scores: the records have no items of it\n"),
                                HasSubstr("other numbers of items\n"), HasSubstr("p Holm")));
  const Json nll = of(compare({"--json"}).json(), "text", "nll");
  EXPECT_EQ(nll["paired"], false);
  EXPECT_EQ(nll["unpaired_because"], "other numbers of items");
  EXPECT_EQ(nll["samples"], 0);

  // As many items, but the records say that they are of another file.
  after = cell("a");
  add_text(after, "fine_tuned", 3, 0.02);
  before.provenance.data_hashes = {{"model", "1"}, {"evaluate[0][0]", "aa"}};
  after.provenance.data_hashes = {{"model", "2"}, {"evaluate[0][0]", "bb"}};
  write("before", before);
  write("after", after);
  EXPECT_EQ(of(compare({"--json"}).json(), "text", "perplexity")["unpaired_because"],
            "the evaluation read other files");
  after.provenance.data_hashes["evaluate[0][0]"] = "aa";
  write("after", after);
  EXPECT_EQ(of(compare({"--json"}).json(), "text", "perplexity")["paired"], true)
      << "another model is what is compared";
}

TEST_F(Compare, TwoSingleCellsArePairedWhateverTheyAre) {
  RunRecord before = cell("high"), after = cell("low");
  for (RunRecord* record : {&before, &after}) add_text(*record, "fine_tuned", 2, record == &before ? 0 : 0.02);
  write("before", before);
  write("after", after);
  const Json nll = of(compare({"--json"}).json(), "text", "nll");
  EXPECT_EQ(nll["paired"], true);
  EXPECT_EQ(nll["verdict"], "worse");
  // With a third cell nobody knows which belong together.
  write("after", cell("uniform"));
  const auto unknown = compare();
  EXPECT_EQ(unknown.exit_code, 3);
  EXPECT_THAT(unknown.err, HasSubstr("the two have no cell in common"));
}

TEST_F(Compare, OfManyTestsSomeStandOutByChance) {
  for (int i = 0; i < 200; ++i) {
    RunRecord before = cell(cat("cell", i)), after = before;
    RandomStream random(static_cast<std::uint64_t>(i), "noise");
    std::vector<double> a(50), b(50);
    for (double& item : a) item = random.normal();
    for (double& item : b) item = random.normal();
    for (auto& [record, items] : {std::pair{&before, &a}, {&after, &b}})
      record->evaluation = {
          test::synthetic_score("fine_tuned", "task", "nll", grouped_mean(*items, {}).value, *items, false)};
    write("before", before);
    write("after", after);
  }
  const auto chance = compare({"--json", "--fail-on-worse", "--resamples", "2000"});
  EXPECT_GE(chance.json()["worse"], 1) << "unadjusted verdicts: about five of 200 by chance";
  EXPECT_EQ(chance.json()["tests"], 200);
  EXPECT_EQ(chance.json()["worse_after_holm"], 0);
  EXPECT_EQ(chance.exit_code, 0);
  // One that is worse for certain is found among all of them, though p is less than one of 2000 resamples.
  RunRecord before = cell("broken"), after = before;
  std::vector<double> a(50), b(50);
  RandomStream random(1, "broken");
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = random.normal();
    b[i] = a[i] + 0.1 + 0.02 * random.normal();
  }
  before.evaluation = {test::synthetic_score("fine_tuned", "task", "nll", grouped_mean(a, {}).value, a, false)};
  after.evaluation = {test::synthetic_score("fine_tuned", "task", "nll", grouped_mean(b, {}).value, b, false)};
  write("before", before);
  write("after", after);
  const auto found = compare({"--json", "--fail-on-worse", "--resamples", "2000"});
  EXPECT_EQ(found.exit_code, 1);
  EXPECT_EQ(found.json()["worse_after_holm"], 1);
  EXPECT_EQ(found.json()["comparisons"][0]["cell"], "sweep/broken");
}

TEST_F(Compare, ANumberThatIsLostIsWorse) {
  RunRecord before = cell("a"), after = cell("a");
  add_text(before, "fine_tuned", 2, 0);
  add_text(after, "fine_tuned", 2, 0);
  after.head.status = RunStatus::kDiverged;
  for (ScoreRecord& score : after.evaluation) {
    score.value = std::nan("");
    for (double& sample : score.per_sample) sample = std::nan("");
  }
  write("before", before);
  write("after", after);
  const auto result = compare({"--json", "--fail-on-worse"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.json()["worse"], before.evaluation.size());
  EXPECT_EQ(result.json()["worse_after_holm"], before.evaluation.size());
}

TEST_F(Compare, MachinesMayKeepTheirDataWhereTheyLike) {
  RunRecord before = cell("a"), after = cell("a");
  before.config["model"]["path"] = "/here/m";
  after.config["model"]["path"] = "/there/on/a/disk/m/";
  before.config["seed"] = after.config["seed"] = 3;
  RunRecord other = before;
  other.config["seed"] = 4;
  other.head.content_hash = "other";
  after.head.cell = "named otherwise";
  for (RunRecord* record : {&before, &after, &other}) add_text(*record, "fine_tuned", 2, 0);
  other.head.cell = "b";
  write("before", before);
  write("before", other);
  write("after", after);
  const Json report = compare({"--json"}).json();
  EXPECT_EQ(report["cells"].size(), 1u);
  EXPECT_EQ(report["cells"][0]["config_differences"].size(), 0u) << report["cells"].dump();
  EXPECT_EQ(report["only_before"], Json({"sweep/b"}));
}

}  // namespace
}  // namespace mla
