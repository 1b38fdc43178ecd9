// Evaluations: one task is one file of this folder.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "core/base/hash.h"
#include "core/base/registry.h"
#include "core/evaluate/continuation.h"
#include "core/model/decoder.h"
#include "core/store/record.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"
#include "experiments/cache/cached_decoding.h"
#include "experiments/data/token_data.h"
#include "experiments/tasks/evaluation_config.h"
#include "experiments/tasks/evaluation_keeper.h"

namespace mla {

/// What evaluations of models with one source share. Everything is made on first use, and once.
class TaskSurroundings {
 public:
  virtual ~TaskSurroundings() = default;
  /// The source model, in float32.
  virtual const Decoder& source() = 0;
  virtual const Tokenizer& tokenizer() = 0;
  /// The file or folder that it was read from.
  virtual std::filesystem::path place_of_tokenizer() = 0;
  virtual const TokenRows& rows(const DataOptions& data) = 0;
  virtual int threads() const = 0;

  /// What `make()` gives for an evaluation (a T), kept for the next who asks.
  template <class T, class Make>
  const T& once(const EvaluationConfig& config, const Make& make) {
    std::shared_ptr<const void>& place = kept(hash_json({typeid(T).name(), write_fields(config)}));
    if (!place) place = std::make_shared<const T>(make());
    return *static_cast<const T*>(place.get());
  }

 protected:
  /// The place, empty at first, of what is known by `key`.
  virtual std::shared_ptr<const void>& kept(const std::string& key) = 0;
};

/// One evaluation of one model.
struct TaskCall {
  const Decoder& decoder;
  const EvaluationConfig& config;
  TaskSurroundings& surroundings;
  std::string stage;                        ///< "source", or a name for what was done to the source model
  EvaluationKeeper keeper;                  ///< where a killed run's work is kept
  const std::vector<ScoreRecord>& earlier;  ///< scores of the same stage, of the evaluations before
  std::filesystem::path predictions = {};   ///< folder for files with what the model answered; empty: none
};

/// What an evaluation computes.
struct TaskCost {
  double tokens = 0;              ///< of forward passes
  std::int64_t batches_done = 0;  ///< of those that an earlier run has left, and `tokens` does not count
};

/// What decoding through a cell's cache gives.
struct CachedTaskScores {
  std::vector<CachedDecodingRecord> decoding;
  std::vector<ScoreRecord> scores;
};

/// What a model is asked for.
enum class Asks { kLogLikelihoods, kGenerations, kHiddenStates, kSteps, kNothing };

/// A task: constructed from the options that it alone has, it reads the rest from the evaluation's config.
class EvaluationTask {
 public:
  static constexpr const char* kKind = "task";
  /// For tasks without options of their own.
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  virtual ~EvaluationTask() = default;

  /// The keys of EvaluationConfig that it reads, `task`, `name` and its own options apart.
  virtual std::vector<std::string> reads() const = 0;
  virtual Asks asks() const = 0;
  /// Throws ConfigError naming a key below `path` that it lacks or cannot use; what makes sense or not by itself, its
  /// own options among it, is checked apart.
  virtual void validate(const EvaluationConfig& config, const std::string& path) const = 0;
  /// The data files that it reads, whose contents its numbers depend on. Throws DataError where there are none.
  virtual std::vector<std::string> files(const EvaluationConfig&) const { return {}; }
  /// Reads and encodes what the model will be asked.
  virtual TaskCost cost(const TaskCall& call) const = 0;
  /// With progress on the terminal. Throws Interrupted after a signal.
  virtual std::vector<ScoreRecord> scores(const TaskCall& call) const = 0;

  /// Whether it can also be done through a cell's cache, and then its scores, of tasks "<label>, cached".
  virtual bool decodes_through_cache() const { return false; }
  virtual CachedTaskScores scores_through_cache(const TaskCall&, const CachedDecodingConfig&,
                                                const CacheFormat&) const {
    return {};
  }

  /// Whether `mlaforge evaluate --tasks` does it: with a model alone, from items or from others' scores.
  virtual bool is_of_items() const { return false; }
  /// Whether it measures time, which is another one whenever it is measured.
  virtual bool is_of_time() const { return false; }
  /// Whether it measures how far a model is from its source on the config's `data`.
  virtual bool is_distance() const { return false; }
  /// The text whose tokens' likelihood it tells; null: none.
  virtual const DataOptions* scored_text(const EvaluationConfig&) const { return nullptr; }
  /// The continuations of which it wants log-likelihoods; null where it does not ask so.
  virtual const std::vector<ContinuationGroup>* continuations(const EvaluationConfig&, TaskSurroundings&) const {
    return nullptr;
  }
};

/// Registers `Task`, an EvaluationTask constructible from its nested Options; what Options has stands in a config under
/// the task's name.
template <class Task>
class TaskRegistration {
 public:
  TaskRegistration(const std::string& name, std::string description) : registration_(name, std::move(description)) {
    OwnTaskOptions::readers().emplace(name, [](const Json& json, const std::string& path) {
      typename Task::Options options{};
      read_fields(json, path, options);
      return write_fields(options);
    });
  }

 private:
  Registration<EvaluationTask, Task> registration_;
};

/// How questions are put where the evaluation asks them as a chat; nothing where it does not. Throws DataError for a
/// model without a chat template, or with one of no known family.
std::optional<Chat> chat_of(const EvaluationConfig& config, TaskSurroundings& surroundings);
/// The same by the tokenizer that was read from `place`.
std::optional<Chat> chat_of(const EvaluationConfig& config, const std::filesystem::path& place,
                            const Tokenizer& tokenizer);

/// "log-likelihoods", "generations", "hidden states", "decoding steps" or "nothing".
std::string describe(Asks asks);

}  // namespace mla
