// Results that the cells of an experiment share, computed once.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/compress/calibration/statistics.h"
#include "core/compress/decomposition_store.h"
#include "core/model/checkpoint.h"
#include "core/store/record.h"
#include "core/text/tokenizer.h"
#include "experiments/config/experiment_config.h"
#include "experiments/plan/plan.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {

/// Source models, token data, statistics, decompositions and scores of source models, each under the hash of what it
/// depends on. Belongs to one thread.
class Session {
 public:
  /// `cells`: everything that will run, so that each layer is decomposed once for the widest of them. Statistics and
  /// scores of source models are shared through their results folder; those older than `not_before` are made again.
  explicit Session(const std::vector<CellPlan>& cells,
                   std::filesystem::file_time_type not_before = std::filesystem::file_time_type::min());

  /// The source model in float32, on the device of the cells, which is one; its tokenizer.
  const Checkpoint& source(const ModelConfig& model);
  const Tokenizer& tokenizer(const ModelConfig& model);
  const TokenRows& rows(const ModelConfig& model, const DataOptions& data);
  /// The same to train on.
  std::shared_ptr<const TokenStream> tokens(const ModelConfig& model, const DataOptions& data, LossOn loss_on);
  /// The same for evaluations of models that derive from `model`; not to outlive this session.
  std::unique_ptr<TaskSurroundings> surroundings(const ModelConfig& model);

  /// What the first passes of all cells require of the source model on this data, gathered at once.
  const Statistics& statistics(const ModelConfig& model, const DataOptions& data);
  /// What one pass requires of another model on the same data; kept nowhere.
  Statistics statistics_of(const Decoder& decoder, const ModelConfig& model, const DataOptions& data,
                           const Requirements& requirements);
  /// Decompositions of the source model as its first `passes` of `cell` leave it, for all cells in which the same come
  /// first.
  DecompositionStore& decompositions(const CellPlan& cell, std::size_t passes);

  /// The source model's scores, stage "source".
  const std::vector<ScoreRecord>& source_scores(const ModelConfig& model, const std::vector<EvaluationConfig>& tasks);

  /// Scores of a model derived from `model`, under another stage: of the tasks that are asked at it.
  /// `keep_in`: a folder for what is done of them, so that a killed run goes on where it was; empty: none.
  std::vector<ScoreRecord> evaluate(const Decoder& decoder, const std::string& stage, const ModelConfig& model,
                                    const std::vector<EvaluationConfig>& tasks,
                                    const std::filesystem::path& keep_in = {});

  /// Content hashes of all files that a cell reads, and of its resolved config.
  Json data_hashes(const ExperimentConfig& config);

 private:
  const std::string& file_hash(const std::filesystem::path& file);
  /// Where a stage that depends on `inputs` and no more is kept for other processes.
  std::filesystem::path shared_file(const std::string& name, const std::string& key, const ExperimentConfig& inputs);

  const std::vector<CellPlan>& cells_;
  std::filesystem::file_time_type not_before_;
  std::map<std::pair<std::string, HeldWeights>, Checkpoint> sources_;
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers_;
  std::map<std::string, TokenRows> rows_;
  std::map<std::string, std::shared_ptr<const TokenStream>> tokens_;
  std::map<std::string, std::shared_ptr<const void>> prepared_;  ///< what tasks keep
  std::map<std::string, Statistics> statistics_;
  std::map<std::string, DecompositionStore> decompositions_;
  std::map<std::string, std::vector<ScoreRecord>> source_scores_;
  std::map<std::string, std::string> file_hashes_;
};

}  // namespace mla
