#include "experiments/tasks/distance_scores.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "experiments/data/score_record.h"

namespace mla {
namespace {

ScoreRecord make(const std::string& stage, const std::string& task, const std::string& metric, const Estimate& estimate,
                 std::int64_t count, const std::string& unit) {
  ScoreRecord score = new_score(stage, task, metric, estimate.value, count, unit, Better::kLower);
  score.standard_error = estimate.standard_error;
  return score;
}

/// A mean that keeps its samples.
ScoreRecord make_mean(const std::string& stage, const std::string& task, const std::string& metric,
                      std::vector<double> samples, const SampleGroups& groups, const std::string& unit) {
  ScoreRecord score = make(stage, task, metric, grouped_mean(samples, groups.sizes), std::ssize(samples), unit);
  score.per_sample = std::move(samples);
  score.group_sizes = groups.sizes;
  score.group_unit = groups.unit;
  return score;
}

/// Of equal scores the first counts, as in multiple_choice().
std::size_t choice_of(const std::vector<double>& log_likelihoods) {
  return static_cast<std::size_t>(std::max_element(log_likelihoods.begin(), log_likelihoods.end()) -
                                  log_likelihoods.begin());
}

using LogLikelihoods = std::vector<std::vector<double>>;  // [item][choice]

LogLikelihoods by_item(const ScoreRecord& score) {
  LogLikelihoods items;
  auto at = score.per_sample.begin();
  for (const std::int64_t choices : score.group_sizes) {
    items.emplace_back(at, at + choices);
    at += choices;
  }
  return items;
}

ScoreRecord changes_of(const std::string& stage, const std::string& task, const LogLikelihoods& before,
                       const LogLikelihoods& after) {
  expects(before.size() == after.size(), "both models were asked the same");
  std::vector<double> changed;
  for (std::size_t i = 0; i < after.size(); ++i) changed.push_back(choice_of(before[i]) != choice_of(after[i]) ? 1 : 0);
  return make_mean(stage, task, "answer_changes", std::move(changed), {}, "share of items");
}

}  // namespace

std::vector<ScoreRecord> distance_scores(const std::string& stage, const std::string& task,
                                         const TokenDivergence& tokens) {
  const char* nats = "nats per token";
  std::vector<ScoreRecord> scores = {make_mean(stage, task, "kl_mean", tokens.kl, tokens.groups, nats)};
  for (const auto& [metric, share] : {std::pair{"kl_median", 0.5}, {"kl_90", 0.9}, {"kl_99", 0.99}}) {
    scores.push_back(make(stage, task, metric, grouped_quantile(tokens.kl, tokens.groups.sizes, share),
                          std::ssize(tokens.kl), nats));
    scores.back().group_unit = tokens.groups.unit;
  }
  scores.push_back(make_mean(stage, task, "top1_agreement", tokens.agrees, tokens.groups, "share of tokens"));
  scores.back().higher_is_better = true;
  std::vector<double> differences;
  for (std::size_t i = 0; i < tokens.nll.size(); ++i) differences.push_back(tokens.nll[i] - tokens.source_nll[i]);
  scores.push_back(make_mean(stage, task, "nll_difference", std::move(differences), tokens.groups, nats));
  const Estimate difference{scores.back().value, *scores.back().standard_error};
  const double ratio = std::exp(difference.value);
  // By the delta method.
  scores.push_back(
      make(stage, task, "perplexity_ratio", {ratio, ratio * difference.standard_error}, scores.back().n, ""));
  scores.back().group_unit = tokens.groups.unit;
  return scores;
}

std::vector<ScoreRecord> flip_scores(const std::vector<ScoreRecord>& source, const std::vector<ScoreRecord>& scores) {
  const std::string accuracy = "accuracy";
  std::vector<ScoreRecord> flips;
  for (const ScoreRecord& score : scores) {
    const bool of_choices = score.metric == "log_likelihood" && !score.group_sizes.empty();
    if ((!score.metric.starts_with(accuracy) && !of_choices) || score.per_sample.empty()) continue;
    const auto before = std::find_if(source.begin(), source.end(), [&](const ScoreRecord& other) {
      return other.stage == "source" && other.task == score.task && other.metric == score.metric &&
             other.per_sample.size() == score.per_sample.size();
    });
    if (before == source.end()) continue;
    if (of_choices) {
      if (before->group_sizes != score.group_sizes) continue;
      flips.push_back(changes_of(score.stage, score.task, by_item(*before), by_item(score)));
      continue;
    }
    std::vector<double> flipped;
    for (std::size_t i = 0; i < score.per_sample.size(); ++i)
      flipped.push_back(score.per_sample[i] != before->per_sample[i] ? 1 : 0);
    flips.push_back(make_mean(score.stage, score.task, "flip_rate" + score.metric.substr(accuracy.size()),
                              std::move(flipped), {score.group_sizes, score.group_unit}, "share of items"));
  }
  return flips;
}

ScoreRecord answer_changes(const std::string& stage, const std::string& task, const MultipleChoiceResult& source,
                           const MultipleChoiceResult& model) {
  return changes_of(stage, task, source.log_likelihood, model.log_likelihood);
}

Json score_with_interval(const ScoreRecord& score) {
  Json json = {{"value", score.value}, {"standard_error", score.standard_error ? Json(*score.standard_error) : Json()},
               {"low", nullptr},       {"high", nullptr},
               {"n", score.n},         {"unit", score.unit}};
  const bool finite =
      std::all_of(score.per_sample.begin(), score.per_sample.end(), [](double x) { return std::isfinite(x); });
  if (score.per_sample.empty() || !finite) return json;
  const GroupMeans groups = group_means(score.per_sample, score.group_sizes);
  const BootstrapInterval interval =
      bootstrap_mean(groups.means, {.resamples = 2000, .stream = score.metric}, groups.weights);
  json["low"] = interval.low;
  json["high"] = interval.high;
  return json;
}

}  // namespace mla
