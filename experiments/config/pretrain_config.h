// What the config file of `mlaforge pretrain` says, as one typed value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/attention/spec.h"
#include "core/base/json.h"
#include "core/base/registry.h"
#include "experiments/config/experiment_config.h"

namespace mla {

struct PretrainConfig {
  std::string description;
  std::string output;
  Json config = Json::object(), attention;
  std::string from;
  std::string tokenizer;
  std::string dtype = "float32", device = "cpu", products = "float32";
  TrainConfig train;
  std::uint64_t seed = 0;
  double checkpoint_seconds = 60;

  static constexpr std::array kLeftOut = {
      LeftOut{"description", "is for people"}, LeftOut{"output", "is where the model goes"},
      LeftOut{"from", "the hash of each file's content stands for it"},
      LeftOut{"tokenizer", "the hash of each file's content stands for it"},
      LeftOut{"checkpoint_seconds", "a run that goes on from a state gives the same bits, however old it is"}};
  static StrategyFields strategies() { return {{"attention", strategy_identity<AttentionSpec>}}; }
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("description", self.description, "for people");
    visit("output", self.output, "folder for the model");
    visit("config", self.config, "the model's shape: a Hugging Face config.json object");
    visit("attention", self.attention,
          "another kind of attention in every layer, {\"name\": \"mfa\", its fields}; fields that are not named are "
          "those "
          "of `config`; null: grouped-query attention");
    visit("from", self.from,
          "a model whose weights it begins with, its KV heads averaged where `config` has fewer (uptraining, arXiv "
          "2305.13245); empty: random weights");
    visit("tokenizer", self.tokenizer, "a tokenizer file or folder; its files are copied beside the model");
    visit("dtype", self.dtype, "of the weights as they are saved: float32 | bfloat16 | …; training is in float32");
    visit("device", self.device, "where the model is trained: cpu | cuda | cuda:N");
    visit("products", self.products, "what large products multiply: float32 | bfloat16 | auto");
    visit("train", self.train, "the training");
    visit("seed", self.seed, "of the initial weights");
    visit("checkpoint_seconds", self.checkpoint_seconds, "of training between two saved states; 0: after every step");
  }

  /// Throws ConfigError for what is missing and for values that make no sense, whatever the tokenizer.
  void validate() const;

  /// Where the model is trained, in float32.
  Placement placement() const;

  /// The shape that `config` and `attention` state. Throws ConfigError for one that no model here can have.
  ModelSpec spec() const;

  /// The standard deviation of initial weights: `config`'s initializer_range, or 0.02, as in Hugging Face.
  double initializer_range() const;
};

/// The config file with its bases, `assignments` ("train.steps=10") and environment variables; validated.
PretrainConfig read_pretrain_config(const std::filesystem::path& file, const std::vector<std::string>& assignments);

}  // namespace mla
