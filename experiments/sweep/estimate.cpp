#include "experiments/sweep/estimate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/model/model_spec.h"
#include "experiments/cell/unloaded_source.h"
#include "experiments/cli/table.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {
namespace {

/// A trained token costs one forward pass and a backward one of twice its work; a teacher's forward pass comes on top.
constexpr double kTrainingFactor = 3;
constexpr double kProbeSeconds = 0.5;

/// A pass list without the widths that a decomposition can be cut to.
Json without_widths(Json compress) {
  for (Json& pass : compress) {
    if (!pass.is_object() || !pass.contains("low_rank") || !pass["low_rank"].is_object()) continue;
    pass["low_rank"].erase("d_kv");
    pass["low_rank"].erase("latent");
  }
  return compress;
}

/// Multiplications of a token's forward pass in matrix products.
struct ProductCount {
  double attention = 0, all = 0;
};
ProductCount count_products(const ModelSpec& spec) {
  ProductCount count{0, static_cast<double>(spec.vocabulary * spec.hidden)};
  for (const ModelParameter& parameter : model_parameters(spec)) {
    if (!parameter.is_matrix() || parameter.group == ParameterGroup::kEmbedding ||
        parameter.group == ParameterGroup::kOutput)
      continue;
    const auto own = static_cast<double>(parameter.count());
    count.all += own;
    if (parameter.group == ParameterGroup::kAttention) count.attention += own;
  }
  return count;
}

using Surroundings = std::function<TaskSurroundings&(const CellPlan& cell)>;

/// Tokens of a forward pass that a cell's work is as dear as.
struct CellTokens {
  double measured = 0;  ///< evaluation and calibration; each part that cells share counts once
  double trained = 0;   ///< training, of single layers too, with the evaluations on its way
};

class Counter {
 public:
  explicit Counter(Surroundings surroundings) : surroundings_(std::move(surroundings)) {}

  CellTokens cell(const CellPlan& cell) {
    const ExperimentConfig& options = cell.options;
    const bool source_too = once("source", write_fields(options.model), tasks(options));
    double tokens = 0;
    for (const EvaluationConfig& task : options.evaluate) {
      std::int64_t stages = source_too && task.is_asked_at("source") ? 1 : 0;
      stages += std::count_if(cell.stages.begin(), cell.stages.end(), [&](const StagePlan& stage) {
        return !stage.label.empty() && task.is_asked_at(stage.label);
      });
      if (stages > 0) tokens += static_cast<double>(stages) * evaluated(cell, task);
    }
    const bool calibrated = std::any_of(cell.passes.begin(), cell.passes.end(),
                                        [](const PlannedPass& one) { return one.pass->needs_calibration(); });
    if (calibrated && once("calibration", write_fields(options.model), write_fields(*options.calibration))) {
      tokens += static_cast<double>(surroundings_(cell).rows(*options.calibration).tokens());
    }
    return {tokens, trained(cell) + fitted(cell)};
  }

 private:
  /// By passes, of each layer's attention alone.
  double fitted(const CellPlan& cell) {
    double tokens = 0;
    for (const PlannedPass& one : cell.passes) {
      if (one.pass->trained_rows() == 0) continue;
      const TokenRows& text = surroundings_(cell).rows(*cell.options.calibration);
      const ProductCount after = count_products(one.after), source = count_products(cell.spec);
      tokens += kTrainingFactor * after.attention / source.all * static_cast<double>(one.pass->trained_rows()) *
                static_cast<double>(text.tokens()) / static_cast<double>(text.rows.size());
    }
    return tokens;
  }

  double trained(const CellPlan& cell) {
    double tokens = 0;
    for (const StagePlan& stage : cell.stages) {
      if (!stage.train) continue;
      const TrainOptions& train = stage.train->options;
      tokens += (kTrainingFactor + (train.loss.needs_teacher() ? 1 : 0)) *
                static_cast<double>(train.steps * train.batch_rows * train.accumulation * train.sequence_length);
      if (stage.train->evaluate_every == 0) continue;
      const auto times = static_cast<double>(train.steps / stage.train->evaluate_every);
      for (const EvaluationConfig* task : cell.options.perplexities()) tokens += times * evaluated(cell, *task);
    }
    return tokens;
  }

  static Json tasks(const ExperimentConfig& options) {
    Json all = Json::array();
    for (const EvaluationConfig& task : options.evaluate) all.push_back(write_fields(task));
    return all;
  }
  bool once(const char* what, const Json& model, const Json& inputs) {
    return seen_.insert(hash_json({what, model, inputs})).second;
  }

  double evaluated(const CellPlan& cell, const EvaluationConfig& task) {
    TaskSurroundings& shared = surroundings_(cell);
    return task.make_task()->cost({shared.source(), task, shared, "source", {}, {}}).tokens;
  }

  Surroundings surroundings_;
  std::set<std::string> seen_;
};

/// Multiplications and additions in a second, of products as the model's feed-forward maps are.
double product_rate(const ModelSpec& spec) {
  constexpr std::int64_t kRows = 256;
  const at::Tensor x = at::ones({kRows, spec.hidden}), weight = at::ones({4 * spec.hidden, spec.hidden});
  at::linear(x, weight);  // starts threads, and is not counted
  std::int64_t done = 0;
  const auto start = std::chrono::steady_clock::now();
  std::chrono::duration<double> passed{0};
  for (; passed.count() < kProbeSeconds; ++done) {
    at::linear(x, weight);
    passed = std::chrono::steady_clock::now() - start;
  }
  return static_cast<double>(2 * done * kRows * weight.numel()) / passed.count();
}

/// Tokens of a forward pass in a second, if products were all of it.
double unloaded_rate(const ModelSpec& spec) {
  const c10::InferenceMode inference;
  return product_rate(spec) / (2 * count_products(spec).all);
}

/// What is written to disk: of each token that is scored its likelihood; of the cell that trains, weights and AdamW's
/// two moments in float32; and the resulting models, where they are kept.
DiskEstimate disk_of(const std::vector<const CellPlan*>& cells, double scored_tokens) {
  DiskEstimate disk;
  disk.records = 8 * scored_tokens;
  for (const CellPlan* cell : cells) {
    const auto parameters = static_cast<double>(count_parameters(cell->planned()).total());
    if (cell->trains()) disk.training_state = std::max(disk.training_state, 12 * parameters);
    if (!cell->options.save_model.empty()) disk.models += 4 * parameters;
  }
  return disk;
}

/// Cells added up, and the tokens that are scored in them.
struct Sum {
  CostEstimate estimate;
  double measured_tokens = 0;
};

/// `open` is asked once for the surroundings of each model, `rate_of` for its tokens a second.
Sum add_up(const std::vector<const CellPlan*>& cells,
           const std::function<std::unique_ptr<TaskSurroundings>(const CellPlan& cell)>& open,
           const std::function<double(const CellPlan& cell)>& rate_of) {
  Sum sum;
  std::map<std::string, double> rates;
  std::map<std::string, std::unique_ptr<TaskSurroundings>> sources;
  Counter counter([&](const CellPlan& cell) -> TaskSurroundings& {
    auto& source = sources[hash_json(write_fields(cell.options.model))];
    if (!source) source = open(cell);
    return *source;
  });
  for (const CellPlan* cell : cells) {
    auto [rate, is_new] = rates.try_emplace(cell->options.model.path, 0);
    if (is_new) rate->second = rate_of(*cell);
    if (sum.estimate.tokens_per_second == 0) sum.estimate.tokens_per_second = rate->second;
    const CellTokens own = counter.cell(*cell);
    sum.estimate.seconds += (own.measured + own.trained) / rate->second;
    sum.measured_tokens += own.measured;
  }
  return sum;
}

}  // namespace

// Passes of twice the length until one takes long enough. The first one starts threads and is not counted.
double forward_rate(const Decoder& decoder) {
  const c10::InferenceMode inference;
  const at::TensorOptions like = decoder.options().dtype(at::kLong);
  decoder.forward(at::zeros({1, 1}, like));
  for (std::int64_t tokens = 16;; tokens *= 2) {
    const std::int64_t length = std::min(tokens, decoder.spec().max_positions),
                       rows = std::max<std::int64_t>(1, tokens / length);
    const at::Tensor ids = at::zeros({rows, length}, like);
    const auto start = std::chrono::steady_clock::now();
    decoder.forward(ids);
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    if (tokens >= 4096 || 2 * passed.count() > kProbeSeconds)
      return static_cast<double>(rows * length) / passed.count();
  }
}

std::string describe_seconds(double seconds) {
  if (seconds < 90) return cat(std::max(1L, std::lround(seconds)), " s");
  if (seconds < 5400) return cat(std::lround(seconds / 60), " min");
  return cat(rounded(seconds / 3600, 3), " h");
}

SharedWork shared_work(const ExperimentPlan& plan) {
  SharedWork work;
  std::set<std::string> models, calibrations, decompositions;
  for (const CellPlan& cell : plan.cells) {
    const Json model = write_fields(cell.options.model);
    models.insert(cell.options.model.path);
    const auto needs = [](const PlannedPass& one) { return one.pass->needs_calibration(); };
    if (std::any_of(cell.passes.begin(), cell.passes.end(), needs)) {
      calibrations.insert(hash_json({model, write_fields(*cell.options.calibration)}));
      ++work.calibrated;
    }
    if (const std::string key = decomposition_key(cell); !key.empty()) {
      decompositions.insert(key);
      ++work.decomposed;
    }
  }
  work.models = std::ssize(models);
  work.calibrations = std::ssize(calibrations);
  work.decompositions = std::ssize(decompositions);
  return work;
}

std::string decomposition_key(const CellPlan& cell) {
  DecompositionStore asked;
  for (const PlannedPass& one : cell.passes) one.pass->announce(one.before, asked);
  if (!asked.expects_any()) return {};
  return hash_json({write_fields(cell.options.model), without_widths(cell.options.compress), cell.options.arithmetic});
}

CostEstimate estimate_cost(const std::vector<const CellPlan*>& cells, Session& session) {
  return add_up(
             cells, [&](const CellPlan& cell) { return session.surroundings(cell.options.model); },
             [&](const CellPlan& cell) { return forward_rate(session.source(cell.options.model).decoder); })
      .estimate;
}

CostEstimate estimate_unloaded(const std::vector<const CellPlan*>& cells) {
  Sum sum = add_up(
      cells, [](const CellPlan& cell) { return std::make_unique<UnloadedSource>(cell.options.model, cell.spec); },
      [](const CellPlan& cell) { return unloaded_rate(cell.spec); });
  sum.estimate.disk = disk_of(cells, sum.measured_tokens);
  return std::move(sum.estimate);
}

void print_shared_work(const SharedWork& work, std::ostream& out) {
  const auto counted = [](std::int64_t count, const char* what) {
    return cat(count, ' ', what, count == 1 ? "" : "s");
  };
  out << "done once: " << counted(work.models, "source model") << (work.models == 1 ? " is" : " are")
      << " loaded and evaluated";
  if (work.calibrated > 0)
    out << "; " << counted(work.calibrations, "calibration") << " for " << counted(work.calibrated, "cell");
  if (work.decomposed > 0)
    out << "; all layers are decomposed " << (work.decompositions == 1 ? "once" : cat(work.decompositions, " times"))
        << " for " << counted(work.decomposed, "cell");
  out << "\n";
}

void print_estimate(const CostEstimate& estimate, std::ostream& out) {
  out << "estimate: about " << describe_seconds(estimate.seconds)
      << " of evaluation and training in one process (probe: " << rounded(estimate.tokens_per_second, 3)
      << " tokens/s forward), decompositions not counted" << std::endl;
}

Json to_json(const SharedWork& work) {
  return {{"source_models", work.models},
          {"calibrations", work.calibrations},
          {"calibrated_cells", work.calibrated},
          {"decompositions", work.decompositions},
          {"decomposed_cells", work.decomposed}};
}

Json to_json(const CostEstimate& estimate) {
  return {{"seconds", estimate.seconds}, {"tokens_per_second", estimate.tokens_per_second}};
}

}  // namespace mla
