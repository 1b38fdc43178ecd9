#include "analysis/records/score_samples.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

#include "core/base/error.h"
#include "core/base/statistics.h"
#include "core/store/record_file.h"

namespace mla {
namespace {

constexpr double kSameValue = 1e-6;  ///< of a score and what its samples give, relative
constexpr int kDeepestMean = 4;      ///< means of means of …
constexpr std::string_view kCached = ", cached";
/// LongBench's tasks that are not in English, which its mean score_english leaves out.
constexpr std::string_view kChineseTasks[] = {"dureader", "lsht", "multifieldqa_zh", "passage_retrieval_zh", "vcsum"};

bool is_near(double a, double b) { return std::abs(a - b) <= kSameValue * std::max(1.0, std::abs(b)); }

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double value_of(const std::vector<SamplePart>& parts) {
  double value = 0;
  for (const SamplePart& part : parts) {
    const double mean = mean_of(part.values);
    value += part.factor * (part.exponential ? std::exp(mean) : mean);
  }
  return value;
}

std::vector<SamplePart> if_right(std::vector<SamplePart> parts, const ScoreOutline& score) {
  return !parts.empty() && is_near(value_of(parts), score.value) ? std::move(parts) : std::vector<SamplePart>();
}

/// Samples whose mean is the quantile of `part`, and whose differences from it say what each sample contributes: (the
/// share below the quantile, less 1 where the sample lies below) over the density there (Woodruff, JASA 47, 1952).
/// Empty where the samples do not tell the density.
std::vector<double> contributions_to_quantile(const SamplePart& part, double share) {
  const Estimate quantile = grouped_quantile(part.values, part.groups, share);
  std::vector<double> below;
  for (const double value : part.values) below.push_back(value <= quantile.value ? 1 : 0);
  const Estimate covered = grouped_mean(below, part.groups);
  if (!(covered.standard_error > 0 && quantile.standard_error > 0)) return {};
  const double inverse_density = quantile.standard_error / covered.standard_error;
  for (double& each : below) each = quantile.value + (covered.value - each) * inverse_density;
  return below;
}

std::string label_of(const Json& evaluation) {
  const std::string name = evaluation.value("name", "");
  return name.empty() ? evaluation.value("task", "") : name;
}

/// The evaluations whose mean `task` is, by the config; empty where it is none.
std::vector<std::string> averaged_tasks(const Json& config, const std::string& task) {
  const Json* evaluations = find_at(config, "evaluate");
  if (!evaluations || !evaluations->is_array()) return {};
  for (const Json& each : *evaluations) {
    if (!each.is_object() || !each.contains("of") || label_of(each) != task) continue;
    std::vector<std::string> names;
    for (const Json& name : each.value("of", Json::array())) {
      if (name.is_string()) names.push_back(name.get<std::string>());
    }
    return names;
  }
  return {};
}

/// Tasks of LongBench whose mean `score` is, of those that the record has.
std::vector<std::string> longbench_tasks_of(const RecordOutline& record, const ScoreOutline& score) {
  const bool cached = score.task.ends_with(kCached), english = score.metric == "score_english";
  if (score.metric != "score" && !english) return {};
  const std::string_view tail = cached ? kCached : std::string_view();
  const std::string start = score.task.substr(0, score.task.size() - tail.size()) + ".";
  std::vector<std::string> names;
  for (const ScoreOutline& each : record.evaluation) {
    if (each.stage != score.stage || each.metric != "score" || !each.task.starts_with(start)) continue;
    if (each.task.ends_with(kCached) != cached) continue;
    const std::string name = each.task.substr(start.size(), each.task.size() - start.size() - tail.size());
    const bool chinese = std::find(std::begin(kChineseTasks), std::end(kChineseTasks), name) != std::end(kChineseTasks);
    if (!english || !chinese) names.push_back(each.task);
  }
  return names;
}

bool all_finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

}  // namespace

double SamplePart::slope() const { return exponential ? factor * std::exp(mean_of(values)) : factor; }

const RecordSamples::Arrays& RecordSamples::arrays(const std::string& stage, const std::string& task,
                                                   const std::string& metric) {
  const std::string group = score_group(stage, task, metric);
  const auto [found, is_new] = arrays_.try_emplace(group);
  if (!is_new) return found->second;
  if (!file_) file_.emplace(open_record(record_.path));
  Arrays& read = found->second;
  if (file_->exists(group + "/per_sample")) read.values = file_->read<double>(group + "/per_sample").values;
  if (file_->exists(group + "/group_sizes")) read.groups = file_->read<std::int64_t>(group + "/group_sizes").values;
  std::int64_t covered = 0;
  const auto left = static_cast<std::int64_t>(read.values.size());
  for (const std::int64_t size : read.groups) covered = size < 0 || size > left - covered ? left + 1 : covered + size;
  if (covered != left) read.groups.clear();  // not a partition: of another program
  return read;
}

const ScoreOutline* RecordSamples::find(const std::string& stage, const std::string& task,
                                        const std::string& metric) const {
  const auto& scores = record_.outline.evaluation;
  const auto found = std::find_if(scores.begin(), scores.end(), [&](const ScoreOutline& score) {
    return score.stage == stage && score.task == task && score.metric == metric;
  });
  return found == scores.end() ? nullptr : &*found;
}

std::vector<SamplePart> RecordSamples::single(const ScoreOutline& score, const std::string& metric) {
  const Arrays& read = arrays(score.stage, score.task, metric);
  if (read.values.empty()) return {};
  return {SamplePart{score.task, read.values, read.groups}};
}

std::vector<SamplePart> RecordSamples::own(const ScoreOutline& score) {
  auto parts = single(score, score.metric);
  if (parts.empty() || !all_finite(parts.front().values)) return parts;
  return if_right(std::move(parts), score);
}

std::vector<SamplePart> RecordSamples::from_another(const ScoreOutline& score) {
  std::vector<SamplePart> parts;
  if (score.metric == "perplexity" || score.metric == "perplexity_ratio") {
    parts = single(score, score.metric == "perplexity" ? "nll" : "nll_difference");
    if (parts.empty() && score.metric == "perplexity") {
      parts = single(score, "log_likelihood");
      if (!parts.empty() && parts.front().groups.size() != parts.front().values.size()) return {};
      for (SamplePart& part : parts) {
        part.groups.clear();
        for (double& value : part.values) value = -value;
      }
    }
    for (SamplePart& part : parts) part.exponential = true;
  } else if (score.metric == "bits_per_byte") {
    parts = single(score, "nll");
    if (!parts.empty()) parts.front().factor = score.value / mean_of(parts.front().values);
    if (!parts.empty() && !(parts.front().factor > 0 && std::isfinite(parts.front().factor))) return {};
  } else {
    for (const auto& [metric, share] : {std::pair{"kl_median", 0.5}, {"kl_90", 0.9}, {"kl_99", 0.99}}) {
      if (score.metric != metric) continue;
      parts = single(score, "kl_mean");
      if (!parts.empty() && !all_finite(parts.front().values)) return {};
      for (SamplePart& part : parts) part.values = contributions_to_quantile(part, share);
      if (!parts.empty() && parts.front().values.empty()) return {};
    }
  }
  return if_right(std::move(parts), score);
}

std::vector<SamplePart> RecordSamples::from_tasks(const ScoreOutline& score, int depth) {
  if (depth >= kDeepestMean) return {};
  std::vector<std::string> tasks = averaged_tasks(record_.outline.config, score.task);
  if (tasks.empty()) tasks = longbench_tasks_of(record_.outline, score);
  std::vector<SamplePart> parts;
  for (const std::string& task : tasks) {
    const std::string metric = score.metric == "score_english" ? "score" : score.metric;
    const ScoreOutline* of_task = find(score.stage, task, metric);
    auto own_parts = of_task ? parts_of(*of_task, depth + 1) : std::vector<SamplePart>();
    if (own_parts.empty()) return {};
    for (SamplePart& part : own_parts) {
      part.factor /= static_cast<double>(tasks.size());
      parts.push_back(std::move(part));
    }
  }
  return if_right(std::move(parts), score);
}

std::vector<SamplePart> RecordSamples::parts_of(const ScoreOutline& score, int depth) {
  if (score.task == "bench") return {};
  for (auto parts : {own(score), from_another(score)}) {
    if (!parts.empty()) return parts;
  }
  return from_tasks(score, depth);
}

std::vector<SamplePart> RecordSamples::parts_of(const ScoreOutline& score) { return parts_of(score, 0); }

std::string pairing_problem(const SamplePart& before, const SamplePart& after) {
  if (before.values.size() != after.values.size()) return "other numbers of items";
  if (!before.groups.empty() && !after.groups.empty() && before.groups != after.groups)
    return "items grouped otherwise";
  if (!all_finite(before.values) || !all_finite(after.values)) return "items that are not finite";
  if (before.exponential != after.exponential || !is_near(before.factor / after.factor, 1))
    return "another number of bytes to a token";
  return "";
}

}  // namespace mla
