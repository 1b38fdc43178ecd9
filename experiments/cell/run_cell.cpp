#include "experiments/cell/run_cell.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "experiments/cell/cell_journal.h"
#include "experiments/cell/identity.h"
#include "experiments/cell/measure_cache.h"
#include "experiments/cell/pass_inputs.h"
#include "experiments/cell/training.h"
#include "experiments/tasks/distance_scores.h"

namespace mla {
namespace {

/// Adds the seconds from its making to its end to a record's timing.
class StageTimer {
 public:
  StageTimer(RunRecord& record, std::string stage) : record_(record), stage_(std::move(stage)) {}
  ~StageTimer() {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
    record_.seconds.emplace_back(stage_, passed.count());
  }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  RunRecord& record_;
  std::string stage_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

RunRecord new_record(const CellPlan& cell, Session& session, const Provenance& provenance) {
  RunRecord record;
  record.head.experiment = cell.options.name;
  record.head.cell = cell.name;
  record.head.content_hash = identify(cell, session).hash;
  record.head.created = utc_now();
  record.config = cell.expanded;
  record.overrides = cell.overrides;
  record.provenance = provenance;
  record.provenance.seed = cell.options.seed;
  record.provenance.threads = at::get_num_threads();
  record.provenance.device = cell.options.device;
  record.provenance.data_hashes = session.data_hashes(cell.options);
  return record;
}

/// Parameters and cache are compared with those of the source's layer that each one comes from.
std::vector<LayerRecord> to_records(const std::vector<PassReport>& reports, const ModelSpec& source) {
  std::vector<LayerRecord> layers;
  const ModelSpec& spec = reports.back().after;
  for (const LayerReport& from : combine_reports(reports)) {
    const std::int64_t index = std::ssize(layers);
    const AttentionSpec& now = spec.attention(index);
    const AttentionSpec& before = source.attention(spec.layers[static_cast<std::size_t>(index)].source_layer);
    LayerRecord layer;
    layer.pairs = from.kept;
    layer.singular_values = from.singular_values;
    layer.value_singular_values = from.value_singular_values;
    layer.joint_error = from.error.joint;
    layer.key_error = from.error.key;
    layer.value_error = from.error.value;
    layer.latent_width = now.latent_width().value_or(0);
    layer.cached_elements = cached_elements(now);
    layer.cached_elements_before = cached_elements(before);
    layer.parameters = now.parameter_count(spec);
    layer.parameters_before = before.parameter_count(source);
    layers.push_back(std::move(layer));
  }
  return layers;
}

/// Applies a stage's passes in order, at first to the source model; weights that were `trained` since are this cell's
/// alone, and so is what is measured and decomposed of them.
std::vector<PassReport> apply_passes(const CellPlan& cell, Session& session, const StagePlan& stage, bool trained,
                                     Decoder& decoder) {
  std::vector<PassReport> reports;
  for (std::size_t i = stage.first_pass; i < stage.first_pass + stage.passes; ++i) {
    const PlannedPass& planned = cell.passes[i];
    Statistics room;
    PassInputs inputs = pass_inputs(cell, session, *planned.pass, decoder, i == 0 && !trained, room);
    if (!trained) inputs.store = &session.decompositions(cell, i);
    Progress bar("compress", planned.after.layer_count(), "layers");
    inputs.progress = [&](std::int64_t) {
      bar.advance();
      check_interrupt();
    };
    reports.push_back(run_pass(planned.name, *planned.pass, decoder, inputs));
  }
  return reports;
}

/// A stage that goes on counts its seconds from its beginning; it keeps its place.
void set_seconds(RunRecord& record, const std::string& stage, double seconds) {
  const auto found = std::find_if(record.seconds.begin(), record.seconds.end(),
                                  [&](const auto& entry) { return entry.first == stage; });
  if (found != record.seconds.end()) {
    found->second = seconds;
  } else {
    record.seconds.emplace_back(stage, seconds);
  }
}

/// One stage of training, from where an earlier run left it. Divergence ends up in the record's head.
void fine_tune(const CellPlan& cell, Session& session, const CellFolder& folder, BatchSource& batches,
               const StagePlan& stage, Checkpoint& model, RunRecord& record) {
  const bool last = stage.label == "fine_tuned";
  folder.check_held();
  CellTraining keeper(folder, stage.state, cell.options.checkpoint_seconds);
  TrainingJournal journal(journal_plan(cell, stage, session, folder, record.training, model));
  const TrainingReport report =
      train_on(batches, *stage.train, model.decoder, stage.title, &keeper, &session.source(cell.options.model).decoder,
               world().first() ? &journal : nullptr);
  if (report.status == TrainingStatus::kInterrupted) throw Interrupted(report.message);
  set_seconds(record, last ? "train" : "train_" + stage.label, report.seconds);
  append_series(report, record.training);
  if (report.status == TrainingStatus::kDiverged) {
    record.head.status = RunStatus::kDiverged;
    record.head.message = report.message;
  }
}

/// The evaluations that can be done through the cell's cache.
void decode_through_cache(const CellPlan& cell, Session& session, const CellFolder& folder, const Decoder& decoder,
                          const std::string& stage, RunRecord& record) {
  if (!cell.options.cache) return;
  const StageTimer timer(record, "decode_" + stage);
  const CachedDecodingConfig& config = *cell.options.cache;
  CacheSamples samples;
  if (needs_calibration(config.storage)) {
    samples = sample_cache(decoder, session.rows(cell.options.model, *cell.options.calibration).rows,
                           {.context = config.decoding.context});
  }
  const CacheFormat format = cache_format(config.storage, "cache", std::move(samples));
  const EvaluationKeeper keeper(folder.path(), stage + "_cached");
  const auto shared = session.surroundings(cell.options.model);
  for (const EvaluationConfig& task : cell.options.evaluate) {
    const auto evaluation = task.make_task();
    if (!evaluation->decodes_through_cache() || !task.is_asked_at(stage)) continue;
    const CachedTaskScores cached =
        evaluation->scores_through_cache({decoder, task, *shared, stage, keeper, record.evaluation}, config, format);
    record.cached_decoding.insert(record.cached_decoding.end(), cached.decoding.begin(), cached.decoding.end());
    record.evaluation.insert(record.evaluation.end(), cached.scores.begin(), cached.scores.end());
  }
  keeper.remove();
}

/// Training is shared between processes, evaluation is not: rank 0 alone does it, and alone keeps the record.
void evaluate(const CellPlan& cell, Session& session, const CellFolder& folder, const Decoder& decoder,
              const std::string& stage, RunRecord& record) {
  if (!world().first()) return;
  const StageTimer timer(record, "evaluate_" + stage);
  const auto scores = session.evaluate(decoder, stage, cell.options.model, cell.options.evaluate, folder.path());
  const auto flips = flip_scores(record.evaluation, scores);
  for (const auto& list : {scores, flips}) record.evaluation.insert(record.evaluation.end(), list.begin(), list.end());
  record.cache.push_back(measure_cache(decoder, stage));
  decode_through_cache(cell, session, folder, decoder, stage, record);
}

void measure_source(const CellPlan& cell, Session& session, const CellFolder& folder, RunRecord& record) {
  if (!world().first()) return;
  const StageTimer timer(record, "evaluate_source");
  record.evaluation = session.source_scores(cell.options.model, cell.options.evaluate);
  const Decoder& source = session.source(cell.options.model).decoder;
  record.cache.push_back(measure_cache(source, "source"));
  decode_through_cache(cell, session, folder, source, "source", record);
}

/// In a model's folder: the content hash of the cell that it is the model of.
constexpr const char* kCellHash = "cell_hash";

/// Weights are saved by rank 0, and last of all what says whose they are.
void save_model(const CellPlan& cell, const CellFolder& folder, const std::string& hash, const Checkpoint& model) {
  if (!world().first() || cell.options.save_model.empty()) return;
  folder.check_held();
  save_checkpoint(model, model_folder(cell));
  write_file_atomically(model_folder(cell) / kCellHash, hash + "\n");
}

Checkpoint copy_of(const Checkpoint& source) { return {source.decoder.clone(), source.config, source.source}; }

/// What an earlier run measured before training, for this run's record.
void take_over(RunRecord earlier, RunRecord& record) {
  record.seconds = std::move(earlier.seconds);
  record.compression = std::move(earlier.compression);
  record.evaluation = std::move(earlier.evaluation);
  record.cache = std::move(earlier.cache);
  record.cached_decoding = std::move(earlier.cached_decoding);
}

/// A cell's run, stage by stage.
class CellRun {
 public:
  CellRun(const CellPlan& cell, Session& session, const Provenance& provenance, const CellFolder& folder)
      : cell_(cell),
        session_(session),
        folder_(folder),
        record_(new_record(cell, session, provenance)),
        model_(copy_of(session.source(cell.options.model))) {}

  RunRecord run() {
    if (auto earlier = folder_.partial_record()) take_over(std::move(*earlier), record_);
    if (!is_measured("source")) {
      measure_source(cell_, session_, folder_, record_);
      new_measures_ = true;
    }
    if (cell_.stages.empty()) save_model(cell_, folder_, record_.head.content_hash, model_);
    for (const StagePlan& stage : cell_.stages) {
      stage.train ? train(stage) : compress(stage);
      // The weights first, then what is measured of them: days of work are not lost to the last evaluation.
      if (&stage == &cell_.stages.back()) save_model(cell_, folder_, record_.head.content_hash, model_);
      if (!stage.label.empty() && !is_measured(stage.label)) {
        evaluate(cell_, session_, folder_, model_.decoder, stage.label, record_);
        new_measures_ = true;
      }
      if (record_.head.status == RunStatus::kDiverged) break;
    }
    if (cell_.trains() && world().first()) record_.training_scores = scores_on_the_way(folder_, record_.evaluation);
    return std::move(record_);
  }

 private:
  bool is_measured(const std::string& label) const {
    return std::any_of(record_.cache.begin(), record_.cache.end(),
                       [&](const CacheRecord& cache) { return cache.stage == label; });
  }

  void compress(const StagePlan& stage) {
    RunRecord again;  // the time of a stage that an earlier run has measured stands in the record already
    const StageTimer timer(is_measured(stage.label) || stage.label.empty() ? again : record_,
                           stage.label == "converted" ? "compress" : "compress_" + stage.label);
    for (PassReport& report : apply_passes(cell_, session_, stage, trained_, model_.decoder))
      reports_.push_back(std::move(report));
    record_.compression = to_records(reports_, cell_.spec);
    record_.passes = report_json(reports_);
  }

  void train(const StagePlan& stage) {
    if (new_measures_ && world().first()) folder_.keep_partial_record(record_);
    new_measures_ = false;
    if (!batches_ || !stage.continues_batches) {
      batches_ = make_batches(*stage.train, [&](const DataOptions& data, LossOn loss_on) {
        return session_.tokens(cell_.options.model, data, loss_on);
      });
    }
    fine_tune(cell_, session_, folder_, *batches_, stage, model_, record_);
    trained_ = true;
  }

  const CellPlan& cell_;
  Session& session_;
  const CellFolder& folder_;
  RunRecord record_;
  Checkpoint model_;
  std::unique_ptr<BatchSource> batches_;
  std::vector<PassReport> reports_;
  bool trained_ = false, new_measures_ = false;
};

}  // namespace

RunRecord run_cell(const CellPlan& cell, Session& session, const Provenance& provenance, const CellFolder& folder) {
  return CellRun(cell, session, provenance, folder).run();
}

std::filesystem::path model_folder(const CellPlan& cell) {
  return std::filesystem::path(cell.options.save_model) / cell.name;
}

bool lacks_model(const CellPlan& cell, const std::string& hash) {
  if (cell.options.save_model.empty()) return false;
  std::error_code error;
  if (!std::filesystem::exists(model_folder(cell) / "config.json", error)) return true;
  const std::filesystem::path file = model_folder(cell) / kCellHash;
  return std::filesystem::exists(file, error) && read_file(file) != hash + "\n";
}

void save_converted_model(const CellPlan& cell, Session& session, const CellFolder& folder) {
  expects(!cell.trains(), "weights that were trained cannot be converted anew");
  Checkpoint model = copy_of(session.source(cell.options.model));
  for (const StagePlan& stage : cell.stages) apply_passes(cell, session, stage, false, model.decoder);
  save_model(cell, folder, identify(cell, session).hash, model);
}

RunRecord failed_record(const CellPlan& cell, Session& session, const Provenance& provenance,
                        const std::string& message) {
  RunRecord record = new_record(cell, session, provenance);
  record.head.status = RunStatus::kFailed;
  record.head.message = message;
  return record;
}

}  // namespace mla
