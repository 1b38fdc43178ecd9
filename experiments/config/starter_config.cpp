#include "experiments/config/starter_config.h"

#include <algorithm>
#include <cmath>

#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/model/model_spec.h"

namespace mla {
namespace {

/// Operations of training that take a few minutes on a few cores, and the rows of a step.
constexpr double kTrainingOperations = 3e13;
constexpr std::int64_t kBatchRows = 4, kMostSteps = 200, kFewestSteps = 10;

std::string quoted(const std::filesystem::path& path) { return Json(path.string()).dump(); }

std::string percent(double share) { return cat(std::round(1000 * share) / 10, " %"); }

template <class T>
std::string listed(const std::vector<T>& values) {
  std::string text;
  for (const T& value : values) text += cat(text.empty() ? "" : ", ", value);
  return "[" + text + "]";
}

HeadFields uniform_heads(const ModelSpec& spec, const std::string& model) {
  for (const LayerSpec& layer : spec.layers) {
    if (grouped_query_heads(*layer.attention)) continue;
    throw ConfigError(cat(model, ": its layers are of kind ", layer.attention->kind(),
                          "; init begins with a model as published, whose layers are of kind grouped_query"));
  }
  return *spec.attention(0).heads();
}

/// Widths at a half, a quarter and an eighth of the source's cache: a KV head caches 2 * pairs + d_kv elements of
/// 2 * head_dim. Where keys stay whole, values alone can get narrower.
void choose_widths(const HeadFields& heads, StarterSizes& sizes) {
  const std::int64_t whole = 2 * heads.head_dim, fixed = sizes.values_alone ? heads.head_dim : 2 * sizes.pairs;
  for (const std::int64_t part : {2, 4, 8}) {
    const std::int64_t width = sizes.values_alone ? heads.head_dim / part : whole / part - fixed;
    if (width < 1) continue;
    sizes.d_kv.push_back(width);
    sizes.cache_left.push_back(static_cast<double>(fixed + width) / static_cast<double>(whole));
  }
}

std::string compress_block(const StarterSizes& sizes) {
  const std::string factorizer =
      sizes.values_alone ? cat("{name: value_svd, d_kv: ", sizes.d_kv.front(), "}  # keys have norms and stay whole")
                         : cat("{name: joint_svd, d_kv: ", sizes.d_kv.front(), ", metric: attention}");
  return cat(
      "# What is done to attention: passes in order (`mlaforge list pass`; docs/methods.md).\n",
      "compress:\n  - name: mha2mla\n", "    # ", sizes.pairs, sizes.pairs == 1 ? " rotation pair" : " rotation pairs",
      " of each key keep RoPE: those with the largest norms on the calibration text.\n",
      "    rope: {name: two_norm, pairs: ", sizes.pairs, "}\n",
      "    # Everything else comes from a latent of d_kv elements per KV head.\n", "    low_rank: ", factorizer, "\n");
}

std::string train_block(const StarterSizes& sizes, const StarterInputs& inputs) {
  if (sizes.steps == 0)
    return "# No training: a step of a model of this size takes minutes on a CPU. `mlaforge keys train` lists its "
           "keys.\n";
  return cat("# Fine-tuning of what was converted: steps of batch_rows x sequence_length tokens.\n",
             "train:\n  steps: ", sizes.steps, "\n  batch_rows: ", kBatchRows, "\n  sequence_length: ", sizes.length,
             "\n  learning_rate: ", sizes.learning_rate,
             "\n  schedule: {shape: wsd, warmup_fraction: 0.1, decay_fraction: 0.3}\n", "  data:\n    files: [",
             quoted(inputs.train), "]\n\n",
             "# Also the source model, fine-tuned alike: what training alone does.\nbaseline: true\n");
}

std::string grid_block(const StarterSizes& sizes) {
  std::string shares;
  for (const double share : sizes.cache_left) shares += cat(shares.empty() ? "" : ", ", percent(share));
  return cat("# One cell for each value: ", shares,
             " of the source's cache. Other keys may be added; all are combined.\n",
             "grid:\n  compress[0].low_rank.d_kv: ", listed(sizes.d_kv), "\n");
}

}  // namespace

StarterSizes starter_sizes(const ModelSpec& spec, const std::string& model) {
  const HeadFields heads = uniform_heads(spec, model);
  StarterSizes sizes;
  sizes.values_alone = heads.qk_norm;
  sizes.pairs = std::max<std::int64_t>(1, heads.head_dim / 16);
  choose_widths(heads, sizes);
  if (sizes.d_kv.empty()) {
    throw ConfigError(
        cat(model, ": heads of ", heads.head_dim, " dims are too narrow for a latent beside one rotation pair"));
  }
  sizes.length = std::min<std::int64_t>(256, spec.max_positions);
  sizes.learning_rate = spec.hidden <= 256 ? 1e-3 : spec.hidden <= 1024 ? 3e-4 : 1e-4;
  const auto parameters = static_cast<double>(count_parameters(spec).total());
  const double steps = kTrainingOperations / (6 * parameters * static_cast<double>(kBatchRows * sizes.length));
  sizes.steps = steps < kFewestSteps ? 0 : static_cast<std::int64_t>(std::min<double>(steps, kMostSteps));
  return sizes;
}

std::string starter_config(const ModelSpec& spec, const StarterInputs& inputs) {
  const StarterSizes sizes = starter_sizes(spec, inputs.model.string());
  const HeadFields heads = *spec.attention(0).heads();
  std::string tokenizer;
  if (!inputs.tokenizer.empty()) tokenizer = cat("\n  tokenizer: ", quoted(inputs.tokenizer));
  return cat(
      "# A first experiment, written by `mlaforge init`: ", spec.layer_count(), " layers, ", heads.heads, " query and ",
      heads.kv_heads, " KV heads of ", heads.head_dim, " dims.\n",
      "# `mlaforge keys` lists everything that may stand here, with defaults. Paths are relative to where mlaforge is "
      "started.\n\n",
      "model:\n  path: ", quoted(inputs.model), tokenizer, "\n\n",
      "# Text on which passes measure what matters. Neither trained nor evaluated on.\n", "calibration:\n  files: [",
      quoted(inputs.calibration), "]\n  length: ", sizes.length,
      "           # tokens of a row at most\n  long_documents: split\n  max_rows: 128\n\n", compress_block(sizes), "\n",
      train_block(sizes, inputs), "\n",
      "# Measured on the source model, after the conversion, and after training, on text that nothing else reads.\n",
      "evaluate:\n  - task: perplexity\n    context: ", sizes.length, "\n    data:\n      files: [",
      quoted(inputs.evaluation), "]\n      length: ", sizes.length,
      "\n      long_documents: split\n      max_rows: 200\n\n", grid_block(sizes), "\n",
      "# Records go to results/<name of this file>/.\nresults: results\nseed: 0\n");
}

}  // namespace mla
