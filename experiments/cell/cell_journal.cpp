#include "experiments/cell/cell_journal.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "core/base/log.h"
#include "core/train/lora.h"

namespace mla {
namespace {

/// What the end of the training will do: adapters become part of the matrices.
Checkpoint merged(const Checkpoint& model) {
  const c10::InferenceMode inference;
  Checkpoint copy{model.decoder.clone(), model.config, model.source};
  merge_adapters(copy.decoder);
  return copy;
}

/// Of a perplexity's scores, those of the whole text.
constexpr std::array kSeries = {"nll", "perplexity", "bits_per_byte"};

Json measure(const CellPlan& cell, const StagePlan& stage, Session& session, const Decoder& decoder) {
  Json all = Json::object();
  const auto shared = session.surroundings(cell.options.model);
  for (const EvaluationConfig* task : cell.options.perplexities()) {
    for (const ScoreRecord& score : task->make_task()->scores({decoder, *task, *shared, stage.label, {}, {}})) {
      if (std::find(kSeries.begin(), kSeries.end(), score.metric) != kSeries.end())
        all[score.task][score.metric] = score.value;
    }
  }
  return all;
}

}  // namespace

JournalPlan journal_plan(const CellPlan& cell, const StagePlan& stage, Session& session, const CellFolder& folder,
                         const TrainingSeries& before, const Checkpoint& model) {
  const std::filesystem::path experiment = cell.record.parent_path();
  JournalPlan plan;
  plan.metrics = folder.metrics();
  if (stage.train->tensorboard) plan.events = experiment / "tensorboard" / cell.name;
  plan.stage = stage.label;
  plan.title = cat(cell.name, ": ", stage.label);
  plan.before = before;
  plan.evaluate_every = stage.train->evaluate_every;
  plan.evaluate = [&cell, &stage, &session, &model] { return measure(cell, stage, session, model.decoder); };
  plan.checkpoints = stage.train->keep_checkpoints;
  const auto& lora = stage.train->options.lora;
  const bool merges = lora && lora->save == LoraSave::kMerged;
  plan.keep = [&folder, &model, merges, place = experiment / "checkpoints" / cell.name](const std::string& name,
                                                                                        const Json& about) {
    folder.check_held();
    if (merges) return keep_checkpoint(merged(model), place / name, about);
    keep_checkpoint(model, place / name, about);
  };
  return plan;
}

std::vector<TrainingScores> scores_on_the_way(const CellFolder& folder, const std::vector<ScoreRecord>& scores) {
  std::vector<TrainingScores> all = training_scores(read_metrics(folder.metrics()));
  for (TrainingScores& one : all) {
    const auto same = std::find_if(scores.begin(), scores.end(), [&](const ScoreRecord& score) {
      return score.task == one.task && score.metric == one.metric;
    });
    if (same != scores.end()) one.unit = same->unit;
  }
  return all;
}

void keep_checkpoint(const Checkpoint& model, const std::filesystem::path& folder, const Json& about) {
  const std::filesystem::path fresh = folder.string() + ".new";
  std::filesystem::remove_all(fresh);
  save_checkpoint(model, fresh);
  write_json(fresh / "checkpoint.json", about);
  std::filesystem::remove_all(folder);
  std::filesystem::rename(fresh, folder);
  log_info(cat(folder.string(), ": the model after step ", about.at("step").get<std::int64_t>(), " is kept"));
}

}  // namespace mla
