// What an experiment's config file says, as one typed value.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/identity.h"
#include "core/base/json.h"
#include "core/device/placement.h"
#include "core/model/checkpoint.h"
#include "core/train/trainer.h"
#include "experiments/cache/cached_decoding.h"
#include "experiments/data/completion_data.h"
#include "experiments/data/token_data.h"
#include "experiments/tasks/evaluation_config.h"

namespace mla {

/// The source model.
struct ModelConfig {
  std::string path;
  std::string tokenizer;
  HeldWeights weights = HeldWeights::kDense;

  static constexpr std::array kLeftOut = {LeftOut{"path", "the hash of each file's content stands for it"},
                                          LeftOut{"tokenizer", "the hash of each file's content stands for it"}};
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("path", self.path, "a Hugging Face folder, a GGUF or a llama2.c .bin file");
    visit("tokenizer", self.tokenizer, "a tokenizer file or folder; empty: the one beside the model");
    visit("weights", self.weights,
          "how a GGUF file's matrices are held: dense | packed (blocks as they are; products round x to 8 bits)");
  }
};

/// One source of a weighted mixture.
struct MixtureSource {
  double weight = 1;
  DataOptions data;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("weight", self.weight, "share of the sequences, and so of the tokens, relative to the other sources'");
    visit("data", self.data, "text of this source");
  }
};

/// Which models of a training are kept besides the last: "last" (none), "best", "every N" steps, or N alone.
struct KeepCheckpoints {
  bool best = false;
  std::int64_t every = 0;  ///< steps; 0: none

  KeepCheckpoints() = default;
  explicit KeepCheckpoints(std::int64_t steps) : every(steps) {}
  /// Throws ConfigError for anything else.
  static KeepCheckpoints read(const Json& json, const std::string& path);
  Json write() const;
};

/// Fine-tuning: the options of the training loop, and what it reads.
struct TrainConfig {
  TrainOptions options;
  std::int64_t partial_rope_steps = 0;
  std::string packing = "packed";
  DocumentBoundaries document_boundaries = DocumentBoundaries::kKept;
  LossOn loss_on = LossOn::kAll;
  DataOptions data;
  std::vector<MixtureSource> mixture;
  std::int64_t evaluate_every = 0;
  KeepCheckpoints keep_checkpoints;
  bool tensorboard = false;

  static constexpr std::array kLeftOut = {
      LeftOut{"keep_checkpoints", "says which models on the way are kept, and changes none"},
      LeftOut{"tensorboard", "writes down what is computed anyway"},
      LeftOut{"shard", "what processes divide among them changes sums in their last bits, as their number does"},
      LeftOut{"overlap", "when processes exchange what they do changes no number"}};
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TrainOptions::fields(self.options, visit);
    visit("partial_rope_steps", self.partial_rope_steps,
          "two stages: so many of `steps` train partial RoPE alone, then the low-rank step follows; 0: one stage");
    visit("packing", self.packing,
          "packed: documents end to end, in an order of `seed` | rows: one document a row, in the order given | "
          "shuffled_rows: in an order of `seed`");
    visit("document_boundaries", self.document_boundaries,
          "kept: packed documents follow each other as one text | masked: each is attended to and predicted by itself");
    visit("loss_on", self.loss_on,
          "all: every token is predicted | completion: of JSON objects {\"prompt\": …, \"completion\": …} or "
          "{\"messages\": […]} the completions, or what the assistant says, alone");
    visit("data", self.data, "text to train on");
    visit("mixture", self.mixture, "instead of `data`: [{\"weight\": 0.7, \"data\": {…}}, …], for packed sequences");
    visit("evaluate_every", self.evaluate_every,
          "steps between two measurements of `evaluate`'s perplexities during training, which records keep as series; "
          "0: none");
    visit("keep_checkpoints", self.keep_checkpoints,
          "models of the way that are kept in RESULTS/<experiment>/checkpoints/<cell>: last (none) | best (of those "
          "that evaluate_every measures) | every N (steps)");
    visit("tensorboard", self.tensorboard,
          "write TensorBoard's event files, too, in RESULTS/<experiment>/tensorboard/<cell>");
  }

  /// Whether documents stay apart, one a row.
  bool in_rows() const { return packing != "packed"; }
  /// Whether the model has adapters beside its matrices afterwards.
  bool keeps_adapters() const { return options.lora && options.lora->save == LoraSave::kBeside; }

  /// The options of the stage before the low-rank step, and of the one after it (the only one without such a stage).
  /// Each goes through the learning rate's schedule.
  TrainConfig first_stage() const;
  TrainConfig last_stage() const;

  /// All that is read, in order: the mixture's sources, or `data` alone. `path` is the config path of each.
  std::vector<std::pair<std::string, const DataOptions*>> sources(const std::string& path) const;

  /// Throws ConfigError naming `path` for training options, data, weights or a packing that make no sense.
  void validate(const std::string& path) const;
};

/// One stage of an experiment: passes, or training.
struct StageConfig {
  Json compress = Json::array();
  std::optional<TrainConfig> train;

  static StrategyFields strategies();
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("compress", self.compress, "passes in order, on the model as the stages before leave it");
    visit("train", self.train, "fine-tuning of it");
  }
};

struct ExperimentConfig {
  std::string name;
  std::string description;
  ModelConfig model;
  std::string device = "cpu", products = "float32";
  std::optional<DataOptions> calibration;
  Json compress = Json::array();
  std::string arithmetic = "float32";
  std::optional<TrainConfig> train;
  std::vector<StageConfig> stages;
  std::vector<EvaluationConfig> evaluate;
  std::optional<CachedDecodingConfig> cache;
  std::string results = "results";
  std::string save_model;
  std::uint64_t seed = 0;
  double checkpoint_seconds = 60;

  static constexpr std::array kLeftOut = {
      LeftOut{"name", "names the folder of records"}, LeftOut{"description", "is for people"},
      LeftOut{"results", "is where records go"}, LeftOut{"save_model", "is where the model goes"},
      LeftOut{"checkpoint_seconds", "a run that goes on from a state gives the same bits, however old it is"}};
  static StrategyFields strategies();
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "folder of this experiment's records under `results`; empty: the config file's name");
    visit("description", self.description, "for people");
    visit("model", self.model, "the source model");
    visit("device", self.device, "where models stand and are computed: cpu | cuda | cuda:N");
    visit("products", self.products,
          "what large float32 products multiply: float32 | bfloat16 | auto, which is bfloat16 where the processor is "
          "faster with it");
    visit("calibration", self.calibration, "data for statistics, where a strategy needs them");
    visit("compress", self.compress, "passes in order: [{\"name\": …}]; empty: the source model as it is");
    visit("arithmetic", self.arithmetic, "precision of decompositions: float32 | float64");
    visit("train", self.train, "fine-tuning after compression; absent: none");
    visit("stages", self.stages,
          "instead of `compress` and `train`: [{\"compress\": […]}, {\"train\": {…}}, …] in order, each measured");
    visit("evaluate", self.evaluate, "what to measure, before compression, after it and after fine-tuning");
    visit("cache", self.cache, "also decode the texts of `evaluate` through a cache stored like this; absent: do not");
    visit("results", self.results, "folder of all records");
    visit("save_model", self.save_model, "folder for the resulting model; empty: not kept");
    visit("seed", self.seed, "of all random streams");
    visit("checkpoint_seconds", self.checkpoint_seconds, "of training between two saved states; 0: after every step");
  }

  /// Where the source model and all that is made of it stand, in float32.
  Placement placement() const {
    return Placement::in(at::kFloat, parse_device(device, "device"), parse_products(products, "products"));
  }

  /// All that is trained on, with the config path of each.
  std::vector<std::pair<std::string, const TrainConfig*>> trainings() const;

  /// Evaluations that can be done again and again during training: perplexities of texts.
  std::vector<const EvaluationConfig*> perplexities() const;

  /// Throws ConfigError for values that make no sense, whatever the model.
  void validate() const;
};

}  // namespace mla
