#include "experiments/attribution/walk.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/evaluate/cached_perplexity.h"
#include "core/evaluate/layer_divergence.h"
#include "experiments/tasks/distance_scores.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {
namespace {

bool is_distance(const EvaluationConfig& task) { return task.make_task()->is_distance(); }

/// The config's evaluations, among them one of the distance.
std::vector<EvaluationConfig> tasks_of(const ExperimentConfig& options) {
  std::vector<EvaluationConfig> tasks = options.evaluate;
  for (EvaluationConfig& task : tasks) task.stages.clear();  // each step is a stage of its own
  if (std::any_of(tasks.begin(), tasks.end(), is_distance)) return tasks;
  const auto text = std::find_if(tasks.begin(), tasks.end(), [](const EvaluationConfig& task) {
    return task.make_task()->scored_text(task) != nullptr;
  });
  if (text == tasks.end()) throw ConfigError("evaluate: attribution needs a text: add a task perplexity or distance");
  tasks.push_back(distance_on_text_of(*text));
  return tasks;
}

/// What a score counts from at the source model, where it is not measured.
std::vector<double> at_source(const ScoreRecord& score) {
  return std::vector<double>(score.per_sample.size(), score.metric == "top1_agreement" ? 1.0 : 0.0);
}

std::vector<ScoreChange> changes_between(const std::vector<ScoreRecord>& before,
                                         const std::vector<ScoreRecord>& after) {
  std::vector<ScoreChange> changes;
  for (const ScoreRecord& score : after) {
    const auto finite = [](const std::vector<double>& values) {
      return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
    };
    if (score.per_sample.empty() || !finite(score.per_sample)) continue;
    const auto found = std::find_if(before.begin(), before.end(), [&](const ScoreRecord& other) {
      return other.task == score.task && other.metric == score.metric &&
             other.per_sample.size() == score.per_sample.size();
    });
    const std::vector<double> earlier = found != before.end() ? found->per_sample : at_source(score);
    if (!finite(earlier)) continue;
    const GroupMeans from = group_means(earlier, score.group_sizes),
                     to = group_means(score.per_sample, score.group_sizes);
    const BootstrapOptions options{.resamples = 2000, .stream = cat("attribution.", score.task, ".", score.metric)};
    changes.push_back({score.task, score.metric, paired_bootstrap(from.means, to.means, options, to.weights)});
  }
  return changes;
}

/// What the model says while it decodes the texts through its cache, where the config has one: from the step on that
/// quantizes it, through the quantized one.
std::vector<ScoreRecord> cached_scores(const AttributionState& state, const std::string& stage) {
  const ExperimentConfig& options = state.cell.options;
  std::vector<ScoreRecord> scores;
  if (!options.cache) return scores;
  CacheSamples samples;
  if (needs_calibration(state.cache)) {
    samples = sample_cache(state.decoder, state.session.rows(options.model, *options.calibration).rows,
                           {.context = options.cache->decoding.context});
  }
  const CacheFormat format = cache_format(state.cache, "cache", std::move(samples));
  for (const EvaluationConfig& task : options.evaluate) {
    const DataOptions* text = task.make_task()->scored_text(task);
    if (!text) continue;
    const CachedPerplexityResult result =
        cached_perplexity(state.decoder, state.session.rows(options.model, *text).rows, options.cache->decoding, format,
                          [](std::int64_t) { check_interrupt(); });
    ScoreRecord nll;
    nll.stage = stage;
    nll.task = task.label() + ", cached";
    nll.metric = "nll";
    nll.n = result.scored_tokens;
    nll.higher_is_better = false;
    nll.unit = "nats per token";
    nll.per_sample = result.nll;
    nll.group_sizes.assign(static_cast<std::size_t>(result.windows), result.scored_tokens / result.windows);
    nll.group_unit = "window";
    const Estimate mean = grouped_mean(nll.per_sample, nll.group_sizes);
    nll.value = mean.value;
    nll.standard_error = mean.standard_error;
    ScoreRecord perplexity = nll;
    perplexity.metric = "perplexity";
    perplexity.unit = "";
    perplexity.value = std::exp(mean.value);
    perplexity.standard_error = perplexity.value * mean.standard_error;
    perplexity.per_sample.clear();
    perplexity.group_sizes.clear();
    scores.push_back(std::move(nll));
    scores.push_back(std::move(perplexity));
  }
  return scores;
}

/// All scores of the model as it stands.
std::vector<ScoreRecord> scores_after(const AttributionState& state, const std::string& stage,
                                      const std::vector<EvaluationConfig>& tasks) {
  std::vector<ScoreRecord> scores = state.session.evaluate(state.decoder, stage, state.cell.options.model, tasks);
  for (ScoreRecord& score : cached_scores(state, stage)) scores.push_back(std::move(score));
  return scores;
}

void attribute_layers(const AttributionState& state, const std::string& step, const EvaluationConfig& task,
                      AttributionReport& report) {
  const Decoder& source = state.session.source(state.cell.options.model).decoder;
  const TokenRows& tokens = state.session.rows(state.cell.options.model, task.data);
  Progress bar(cat(step, " layer by layer"), (tokens.tokens() - std::ssize(tokens.rows)) * source.spec().layer_count(),
               "tokens");
  const auto layers = layer_divergence(source, state.decoder, tokens.rows, task.options, [&](std::int64_t count) {
    bar.advance(count);
    check_interrupt();
  });
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string stage = cat(step, "_of_layer_", i);
    report.layers.push_back({step, static_cast<std::int64_t>(i), distance_scores(stage, task.label(), layers[i])});
  }
}

}  // namespace

AttributionReport attribute(const CellPlan& cell, Session& session, bool by_layer) {
  const std::vector<NamedStep> steps = attribution_steps(cell);
  if (steps.empty()) throw ConfigError("compress: the config has no step to attribute anything to");
  const std::vector<EvaluationConfig> tasks = tasks_of(cell.options);
  const EvaluationConfig& text = *std::find_if(tasks.begin(), tasks.end(), is_distance);
  AttributionState state{cell, session, session.source(cell.options.model).decoder.clone(), {}};
  AttributionReport report;
  report.steps.push_back({"source", scores_after(state, "source", tasks), {}});
  for (const NamedStep& named : steps) {
    named.step->apply(state);
    StepReport step{named.name, scores_after(state, named.name, tasks), {}};
    const auto flips = flip_scores(report.steps.front().scores, step.scores);
    step.scores.insert(step.scores.end(), flips.begin(), flips.end());
    step.changes = changes_between(report.steps.back().scores, step.scores);
    report.steps.push_back(std::move(step));
    if (by_layer && named.step->is_layerwise()) attribute_layers(state, named.name, text, report);
  }
  return report;
}

}  // namespace mla
