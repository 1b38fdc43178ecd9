#include "experiments/cell/run_cell.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <chrono>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "experiments/cell/identity.h"
#include "experiments/cell/training.h"
#include "experiments/model/dtype.h"
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

/// Applies the cell's `passes` in order, the first of them to the source model where `from_source`; weights that were
/// trained since are this cell's alone, and so is what is measured and decomposed of them.
std::vector<PassReport> apply_passes(const CellPlan& cell, Session& session, const std::vector<PlannedPass>& passes,
                                     bool from_source, Decoder& decoder) {
  std::vector<PassReport> reports;
  for (std::size_t i = 0; i < passes.size(); ++i) {
    const PlannedPass& planned = passes[i];
    PassInputs inputs;
    CalibrationStatistics own;
    if (planned.pass->needs_statistics() && from_source && i == 0) {
      inputs.statistics = &session.statistics(cell.options.model, *cell.options.calibration);
    } else if (planned.pass->needs_statistics()) {
      own = session.statistics_of(decoder, cell.options.model, *cell.options.calibration);
      inputs.statistics = &own;
    }
    if (from_source) inputs.store = &session.decompositions(cell, i);
    inputs.arithmetic = parse_dtype(cell.options.arithmetic, "arithmetic");
    Progress bar("compress", planned.after.layer_count(), "layers");
    inputs.progress = [&](std::int64_t) {
      bar.advance();
      check_interrupt();
    };
    reports.push_back(run_pass(planned.name, *planned.pass, decoder, inputs));
  }
  return reports;
}

void compress(const CellPlan& cell, Session& session, Decoder& decoder, RunRecord& record) {
  const StageTimer timer(record, "compress");
  record.compression = to_records(apply_passes(cell, session, cell.passes, true, decoder), cell.spec);
}

/// One stage of training, from where an earlier run left it. Divergence ends up in the record's head.
void fine_tune(const CellPlan& cell, Session& session, const CellFolder& folder, BatchSource& batches,
               TrainingStage stage, Decoder& decoder, RunRecord& record) {
  const bool last = stage == TrainingStage::kLast;
  const TrainConfig train = last ? cell.options.train->last_stage() : cell.options.train->first_stage();
  CellTraining keeper(folder, stage, cell.options.checkpoint_seconds);
  const TrainingReport report = train_on(batches, train, decoder, last ? "fine-tune" : "fine-tune partial RoPE",
                                         &keeper, &session.source(cell.options.model).decoder);
  if (report.status == TrainingStatus::kInterrupted) throw Interrupted(report.message);
  record.seconds.emplace_back(last ? "train" : "train_partial_rope", report.seconds);
  append_series(report, record.training);
  if (report.status == TrainingStatus::kDiverged) {
    record.head.status = RunStatus::kDiverged;
    record.head.message = report.message;
  }
}

/// Bytes that the model's cache holds after some tokens: predicted from shapes, and counted in its buffers.
CacheRecord measure_cache(const Decoder& decoder, const std::string& stage) {
  const c10::InferenceMode inference;
  CacheRecord cache;
  cache.stage = stage;
  cache.tokens = std::min<std::int64_t>(64, decoder.spec().max_positions);
  cache.predicted_bytes = cached_elements(decoder.spec());
  cache.predicted_bytes *= cache.tokens * static_cast<std::int64_t>(c10::elementSize(decoder.compute_dtype));
  DecoderCache buffers = decoder.make_cache(1);
  decoder.forward_cached(at::zeros({1, cache.tokens}, at::kLong), buffers);
  cache.counted_bytes = buffers.bytes();
  expects(cache.counted_bytes == cache.predicted_bytes,
          "the cache's buffers hold another number of bytes than predicted");
  return cache;
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
    if (!evaluation->decodes_through_cache()) continue;
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

/// The first of two stages: partial RoPE, trained; then the low-rank step. Measures both unless `measured`.
/// Returns false when training has diverged; then the low-rank step is not made.
bool convert_in_two_stages(const CellPlan& cell, Session& session, const CellFolder& folder, BatchSource& batches,
                           bool measured, Decoder& decoder, RunRecord& record) {
  std::vector<PlannedPass> first = cell.steps(), second;
  second.push_back(std::move(first.back()));
  first.pop_back();
  std::vector<PassReport> reports = apply_passes(cell, session, first, true, decoder);
  fine_tune(cell, session, folder, batches, TrainingStage::kPartialRope, decoder, record);
  if (!measured) evaluate(cell, session, folder, decoder, "partial_rope", record);
  if (record.head.status == RunStatus::kDiverged) return false;
  const StageTimer timer(record, "compress");
  for (PassReport& report : apply_passes(cell, session, second, false, decoder)) reports.push_back(std::move(report));
  record.compression = to_records(reports, cell.spec);
  return true;
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

}  // namespace

RunRecord run_cell(const CellPlan& cell, Session& session, const Provenance& provenance, const CellFolder& folder) {
  const ExperimentConfig& options = cell.options;
  RunRecord record = new_record(cell, session, provenance);
  Checkpoint model = copy_of(session.source(options.model));
  auto earlier = folder.partial_record();
  if (!earlier) measure_source(cell, session, folder, record);

  std::unique_ptr<BatchSource> batches;
  if (options.train)
    batches =
        make_batches(*options.train, [&](const DataOptions& data) { return session.tokens(options.model, data); });
  if (options.train && options.train->partial_rope_steps > 0) {
    if (!convert_in_two_stages(cell, session, folder, *batches, earlier.has_value(), model.decoder, record))
      return record;
  } else if (!cell.passes.empty()) {
    compress(cell, session, model.decoder, record);
  }
  // The weights first, then what is measured of them: days of work are not lost to the last evaluation.
  if (!options.train) save_model(cell, folder, record.head.content_hash, model);
  if (earlier) {
    take_over(std::move(*earlier), record);
  } else {
    if (!cell.passes.empty()) evaluate(cell, session, folder, model.decoder, "converted", record);
    if (options.train && world().first()) folder.keep_partial_record(record);
  }
  if (options.train) {
    fine_tune(cell, session, folder, *batches, TrainingStage::kLast, model.decoder, record);
    save_model(cell, folder, record.head.content_hash, model);
    evaluate(cell, session, folder, model.decoder, "fine_tuned", record);
  }
  return record;
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
  expects(!cell.options.train, "weights that were trained cannot be converted anew");
  RunRecord record;
  Checkpoint model = copy_of(session.source(cell.options.model));
  if (!cell.passes.empty()) compress(cell, session, model.decoder, record);
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
