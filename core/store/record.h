// The record of one run: the only place that knows what a results file holds and how it is laid out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/fields.h"
#include "core/base/provenance.h"

namespace mla {

// How the layout grows: a new field, group or array is optional for readers by default (see read_group() in
// field_group.h) and needs no new version. The version is raised when something that was there before means something
// else; readers go back to the first.

/// Version of the layout. 1: `bench` kept half an interquartile range as its scores' standard_error. 2: that is
/// `spread`.
constexpr std::int64_t kRecordVersion = 2;

/// How a run ended. A diverged run is a result: its numbers stand, and tables mark it. An interrupted one will go on.
enum class RunStatus { kComplete, kDiverged, kFailed, kInterrupted };
std::vector<std::pair<std::string, RunStatus>> enum_names(RunStatus);

/// What identifies a record; attributes of the file itself.
struct RecordHead {
  RunStatus status = RunStatus::kComplete;
  std::string message;  ///< why it diverged or failed; empty when complete
  std::string experiment;
  std::string cell;
  std::string content_hash;  ///< of everything the result depends on; equal hash: need not be run again
  std::string created;

  static constexpr const char* kRequired[] = {"status"};

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("status", self.status, "complete, diverged, failed or interrupted");
    visit("message", self.message, "why the run diverged or failed");
    visit("experiment", self.experiment, "name of the experiment");
    visit("cell", self.cell, "name of the grid's cell");
    visit("content_hash", self.content_hash,
          "hash of every config value that can change a number, and of the content of everything that is read; not of "
          "the program, for which see provenance");
    visit("created", self.created, "time at which the record was begun, ISO 8601, UTC");
  }
  bool operator==(const RecordHead&) const = default;
};

/// What compression did to one layer; /compression/layer_000.
struct LayerRecord {
  std::vector<std::vector<std::int64_t>> pairs;  ///< [kv_heads][pairs]
  std::vector<double> singular_values;
  std::vector<double> value_singular_values;
  double joint_error = 0, key_error = 0, value_error = 0;
  std::int64_t latent_width = 0;
  std::int64_t cached_elements = 0, cached_elements_before = 0;
  std::int64_t parameters = 0, parameters_before = 0;

  static constexpr const char* kRequired[] = {"joint_error",  "key_error",        "value_error",
                                              "latent_width", "cached_elements",  "cached_elements_before",
                                              "parameters",   "parameters_before"};

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("pairs", self.pairs,
          "[kv_heads, pairs] indices of the rotation pairs that keep RoPE; pair 0 rotates fastest");
    visit("singular_values", self.singular_values,
          "of the factorized matrix (keys and values together, or keys alone)");
    visit("value_singular_values", self.value_singular_values, "of the values' matrix where it is factorized alone");
    visit("joint_error", self.joint_error, "|| approximation - W || / || W ||, Frobenius, of keys and values together");
    visit("key_error", self.key_error, "the same of the position-free keys");
    visit("value_error", self.value_error, "the same of the values");
    visit("latent_width", self.latent_width, "latent elements cached per token");
    visit("cached_elements", self.cached_elements, "elements cached per token: latent and rotated keys");
    visit("cached_elements_before", self.cached_elements_before, "elements cached per token by the source model");
    visit("parameters", self.parameters, "parameters of the attention layer after compression");
    visit("parameters_before", self.parameters_before, "parameters of the attention layer in the source model");
  }
  bool operator==(const LayerRecord&) const = default;
};

/// The course of fine-tuning, one entry per logged step; /training. All of one length.
struct TrainingSeries {
  std::vector<std::int64_t> step, tokens;
  std::vector<double> loss, learning_rate, gradient_norm;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("step", self.step, "optimizer steps taken");
    visit("tokens", self.tokens, "tokens trained on so far");
    visit("loss", self.loss, "mean loss of the step's batch, nats per token");
    visit("learning_rate", self.learning_rate, "largest learning rate of the step");
    visit("gradient_norm", self.gradient_norm, "2-norm of the gradient before clipping");
  }
  bool operator==(const TrainingSeries&) const = default;
};

/// A score of an evaluation that was done again and again during training; /training_scores/<task>/<metric>.
struct TrainingScores {
  std::string task, metric, unit;
  std::vector<std::int64_t> step;
  std::vector<double> value;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("unit", self.unit, "unit of the values");
    visit("step", self.step, "of /training/step, after whose update the model was measured");
    visit("value", self.value, "the score then");
  }
  bool operator==(const TrainingScores&) const = default;
};

/// One measured number; /evaluation/<stage>/<task>/<metric>. A name may not be empty or hold '/'.
struct ScoreRecord {
  std::string stage;  ///< source, converted or fine_tuned
  std::string task, metric;
  double value = 0;
  std::optional<double> standard_error;
  std::int64_t n = 0;
  bool higher_is_better = true;
  std::string unit;
  std::vector<double> per_sample;
  std::vector<std::int64_t> group_sizes = {};  ///< see SampleGroups in core/base/statistics.h
  std::string group_unit = {};
  std::optional<double> spread = {};

  static constexpr const char* kRequired[] = {"value", "higher_is_better"};

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("value", self.value, "the score");
    visit("standard_error", self.standard_error, "of the value, in its unit; absent where unknown");
    visit("n", self.n, "samples the value is an average over");
    visit("higher_is_better", self.higher_is_better, "direction of improvement");
    visit("unit", self.unit, "unit of the value");
    visit("per_sample", self.per_sample, "the samples' own values, in the task's order");
    visit("group_sizes", self.group_sizes,
          "successive samples that depend on each other: a text's documents or blocks; empty: each sample by itself");
    visit("group_unit", self.group_unit, "what such a group is, and so what the standard error takes as independent");
    visit("spread", self.spread, "of measured times: half the distance between the samples' quartiles; no error");
  }
  bool operator==(const ScoreRecord&) const = default;
};

/// Bytes of the KV cache of one stage's model, and of its weights, predicted from shapes and counted in buffers;
/// /cache/<stage>.
struct CacheRecord {
  std::string stage;
  std::int64_t tokens = 0, predicted_bytes = 0, counted_bytes = 0;
  std::optional<std::int64_t> predicted_weight_bytes = {}, counted_weight_bytes = {};

  static constexpr const char* kRequired[] = {"tokens", "predicted_bytes", "counted_bytes"};

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("tokens", self.tokens, "tokens in the cache");
    visit("predicted_bytes", self.predicted_bytes, "bytes predicted from the shapes, all layers");
    visit("counted_bytes", self.counted_bytes, "bytes counted in the buffers, all layers");
    visit("predicted_weight_bytes", self.predicted_weight_bytes, "of all weights, from their shapes and storage");
    visit("counted_weight_bytes", self.counted_weight_bytes, "the same counted in the buffers");
  }
  bool operator==(const CacheRecord&) const = default;
};

/// What a stage's model says of one task's text while it decodes through a cache that may be quantized;
/// /cached_decoding/<stage>/<task>.
struct CachedDecodingRecord {
  std::string stage, task;
  std::string codec;
  std::int64_t nominal_bits = 0;
  double effective_bits = 0;
  std::int64_t tokens = 0, elements = 0, predicted_bytes = 0, counted_bytes = 0;
  double nll = 0, standard_error = 0, perplexity = 0;
  std::int64_t n = 0;

  static constexpr const char* kRequired[] = {"effective_bits", "tokens",         "elements",   "predicted_bytes",
                                              "counted_bytes",  "standard_error", "perplexity", "nll"};

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("codec", self.codec, "codec of the cache and its bits; plain: stored as it is");
    visit("nominal_bits", self.nominal_bits, "bits of a code, or of an element stored as it is");
    visit("effective_bits", self.effective_bits, "stored bits per cached element, everything counted");
    visit("tokens", self.tokens, "tokens in a window's cache at its end");
    visit("elements", self.elements, "cached elements per token, all layers");
    visit("predicted_bytes", self.predicted_bytes, "of a window's cache at its end, by formula; mean over windows");
    visit("counted_bytes", self.counted_bytes, "the same counted in the buffers");
    visit("nll", self.nll, "mean over the tokens decoded one by one, nats per token");
    visit("standard_error", self.standard_error, "of nll");
    visit("perplexity", self.perplexity, "exp(nll)");
    visit("n", self.n, "tokens scored");
  }
  bool operator==(const CachedDecodingRecord&) const = default;
};

/// Everything kept of one run. Parts that a run did not reach are empty.
struct RunRecord {
  RecordHead head;
  Json config = Json::object();     ///< resolved, as the user could write it; /config
  Json overrides = Json::object();  ///< the cell's place in the grid: config path -> value; /overrides
  Provenance provenance;
  std::vector<std::pair<std::string, double>> seconds;  ///< by stage, in the order run; /timing
  std::vector<LayerRecord> compression;                 ///< one entry per layer, all passes together
  Json passes = Json::array();                          ///< what each pass did, in order; /passes
  TrainingSeries training;
  std::vector<TrainingScores> training_scores;  ///< in the order first measured
  std::vector<ScoreRecord> evaluation;
  std::vector<CacheRecord> cache;
  std::vector<CachedDecodingRecord> cached_decoding;
  bool operator==(const RunRecord&) const = default;
};

/// Writes a record under a temporary name and renames it: a file of that name is whole. Makes missing folders.
/// Throws DataError when it cannot be written (full disk, no permission); nothing is left behind.
void write_record(const std::filesystem::path& path, const RunRecord& record);

/// Reads a record back, of this version or any before. Throws DataError for a file that is missing, damaged, foreign or
/// of a later version. What another program has added is left out (core/store/record_contents.h finds it). Scores,
/// stages and tasks come back in the order written.
RunRecord read_record(const std::filesystem::path& path);

/// Only what identifies the record, for deciding whether to run the cell again.
RecordHead read_record_head(const std::filesystem::path& path);

}  // namespace mla
