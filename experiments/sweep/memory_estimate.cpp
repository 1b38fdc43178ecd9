#include "experiments/sweep/memory_estimate.h"

#include <algorithm>
#include <numeric>

#include "core/base/byte_size.h"
#include "core/compress/calibration/rows.h"
#include "core/model/weight_pages.h"
#include "core/train/gradient_buckets.h"
#include "core/train/lora.h"
#include "core/train/step_memory.h"
#include "core/train/trainable.h"
#include "experiments/cache/model_cache.h"
#include "experiments/cli/table.h"

namespace mla {
namespace {

constexpr std::int64_t kFloatBytes = 4, kDoubleBytes = 8;

std::int64_t weight_bytes(const ModelSpec& spec) {
  std::int64_t bytes = 0;
  for (const ModelParameter& parameter : model_parameters(spec)) {
    bytes += parameter.storage ? bytes_of(*parameter.storage, parameter.matrix(), at::kFloat)
                               : parameter.count() * kFloatBytes;
  }
  return bytes;
}

/// Gradients by where in a backward pass they come up: the output matrix's before it, each layer's, the embedding's.
struct Gradients {
  std::int64_t first = 0, last = 0, largest = 0, largest_of_layers = 0;
  std::vector<std::int64_t> layers;
  ParameterBytes parameters;
  std::int64_t total() const { return first + last + std::accumulate(layers.begin(), layers.end(), std::int64_t{0}); }
};

Gradients gradients_of(const ModelSpec& spec, const TrainOptions& options) {
  Gradients gradients;
  gradients.layers.assign(spec.layers.size(), 0);
  if (options.lora) {
    const std::int64_t bytes = adapter_elements(spec, *options.lora) * kFloatBytes;
    for (std::int64_t& layer : gradients.layers) layer = bytes / spec.layer_count();
    for (std::int64_t i = 0; i < spec.layer_count(); ++i)
      gradients.parameters.emplace_back(cat("model.layers.", i), bytes / spec.layer_count());
    return gradients;
  }
  for (const ModelParameter& parameter : trained_parameters(spec, options.trainable, "train.trainable")) {
    const std::int64_t bytes = parameter.count() * kFloatBytes;
    gradients.parameters.emplace_back(parameter.name, bytes);
    gradients.largest = std::max(gradients.largest, bytes);
    if (const auto layer = layer_of(parameter.name)) {
      gradients.layers.at(*layer) += bytes;
      gradients.largest_of_layers = std::max(gradients.largest_of_layers, bytes);
    } else if (parameter.group == ParameterGroup::kOutput || spec.tied_embeddings) {
      gradients.first += bytes;  // a tied matrix gets its part of the logits first
    } else {
      gradients.last += bytes;
    }
  }
  return gradients;
}

struct Moment {
  std::int64_t gradients = 0, activations = 0, logits = 0, brought = 0;
  std::int64_t sum() const { return gradients + activations + logits + brought; }
};

/// How gradients come up and go away.
struct Handling {
  bool from_earlier_passes = false;  ///< those of a pass before are there
  std::int64_t kept_by = 1;          ///< processes that share what is kept of each
  bool output_goes_first = false;    ///< the output matrix's is given away with the others, and not kept whole
  std::int64_t left_over = 0;        ///< bytes of a pass before that are still under way when the next has its logits
  std::int64_t whole = 0;            ///< bytes that are there whole meanwhile, or twice
  std::int64_t whole_at_first = 0;   ///< likewise while the last group is under way
  bool brings_weights = false;       ///< a group's weights come when it is computed …
  bool brings_next = false;          ///< … and the next one's
};

/// Of gradients that are not kept whole two buckets are under way while the next fills, or one large gradient while the
/// next is made. Without overlap there is one, and its copy in the message.
Handling handling_of(const ModelSpec& spec, const TrainOptions& options, const Gradients& gradients, std::int64_t share,
                     std::int64_t ranks) {
  Handling handling{.from_earlier_passes = share > options.batch_rows};
  if (ranks == 1) return handling;
  const std::int64_t bucket = bucket_bytes(gradients.parameters);
  const bool several_passes = handling.from_earlier_passes;
  if (options.shard == Shard::kNone || (options.shard == Shard::kOptimizer && several_passes)) {
    for (const std::vector<std::size_t>& one : make_buckets(spec, gradients.parameters)) {
      std::int64_t bytes = 0;
      for (const std::size_t i : one) bytes += gradients.parameters[i].second;
      if (one.size() > 1) handling.whole = std::max(handling.whole, bytes);
    }
    handling.whole_at_first = handling.whole;
    return handling;
  }
  handling.kept_by = ranks;
  handling.output_goes_first = !spec.tied_embeddings;
  const std::int64_t made = std::max(bucket, gradients.largest_of_layers);
  handling.whole = options.overlap ? std::max(3 * bucket, 2 * gradients.largest_of_layers) : std::max(2 * bucket, made);
  handling.whole_at_first = handling.output_goes_first && options.overlap ? gradients.first + made : handling.whole;
  if (several_passes && options.overlap) handling.left_over = gradients.largest;
  handling.brings_weights = options.shard == Shard::kWeights;
  handling.brings_next = handling.brings_weights && options.overlap;
  return handling;
}

/// The moment of the most in a step: when logits stand beside all activations, when a group's backward pass is under
/// way and the gradients of those behind it are there, or when all is done.
Moment largest_moment(const ModelSpec& spec, const StepMemory& step, const Gradients& gradients,
                      const Handling& handling) {
  const std::vector<std::size_t> groups = group_boundaries(spec);
  const auto of_group = [&](std::size_t g) {
    return std::accumulate(gradients.layers.begin() + static_cast<std::ptrdiff_t>(groups[g]),
                           gradients.layers.begin() + static_cast<std::ptrdiff_t>(groups[g + 1]), std::int64_t{0});
  };
  std::int64_t kept = std::accumulate(step.kept.begin(), step.kept.end(), step.around);
  const std::int64_t in_passes = (gradients.total() - gradients.first) / handling.kept_by,
                     first = handling.output_goes_first ? gradients.first / handling.kept_by : gradients.first;
  std::int64_t there = handling.from_earlier_passes ? first + in_passes : 0;
  // The output matrix's comes whole, and a product is made before it is added to what is there.
  Moment most{there + gradients.first + handling.left_over, kept, step.logits};
  const auto compare = [&](const Moment& moment) {
    if (moment.sum() > most.sum()) most = moment;
  };
  if (!handling.from_earlier_passes) there = first;
  std::int64_t whole = handling.whole_at_first;
  for (std::size_t g = step.kept.size(); g-- > 0; whole = handling.whole) {
    const std::int64_t own = of_group(g), brought = handling.brings_weights ? own : 0;
    if (!handling.from_earlier_passes) there += own / handling.kept_by;
    const std::int64_t next = handling.brings_next && g > 0 ? of_group(g - 1) : 0;
    const std::int64_t before = g + 1 < step.kept.size()     ? of_group(g + 1)
                                : handling.output_goes_first ? gradients.first
                                                             : 0;
    const std::int64_t recent = own + before;
    compare({there + std::min(recent, whole), kept + step.transient[g], 0, brought + next});
    kept -= step.kept[g];
  }
  // Last comes the embedding's, whole before it is added or given away.
  compare({first + in_passes + gradients.largest, step.around, 0});
  compare({first + in_passes + handling.whole, 0, 0});
  return most;
}

/// Of layers' parameters, bytes in the part of the process that has most of them: parts are cut from all parameters.
std::int64_t largest_part_of_layers(const ParameterBytes& parameters, std::int64_t total, std::int64_t ranks) {
  std::vector<std::int64_t> parts(static_cast<std::size_t>(ranks), 0);
  std::int64_t begin = 0;
  for (const auto& [name, bytes] : parameters) {
    const std::vector<std::int64_t> counts =
        shard_counts(begin / kFloatBytes, bytes / kFloatBytes, total / kFloatBytes, ranks);
    begin += bytes;
    for (std::size_t rank = 0; rank < parts.size() && layer_of(name); ++rank) parts[rank] += counts[rank] * kFloatBytes;
  }
  return *std::max_element(parts.begin(), parts.end());
}

/// Elements of what a tap shows of a token.
std::int64_t width_of(Tap tap, const ModelSpec& spec, std::int64_t layer) {
  const Json heads = spec.attention(layer).fields();
  const auto field = [&](const char* name) { return heads.contains(name) ? heads[name].get<std::int64_t>() : 0; };
  switch (tap) {
    case Tap::kQuery:
    case Tap::kQueryRotated:
    case Tap::kAttentionContext:
      return field("heads") * field("head_dim");
    case Tap::kKey:
    case Tap::kKeyRotated:
    case Tap::kValue:
      return field("kv_heads") * field("head_dim");
    case Tap::kFeedForwardInner:
      return spec.layers[static_cast<std::size_t>(layer)].feed_forward.width;
    default:
      return spec.hidden;
  }
}

/// Of second moments, which is nearly all of it; of others what is one number a dim.
std::int64_t statistic_bytes(const Requirements& requirements, const ModelSpec& spec) {
  std::int64_t elements = 0;
  for (const Requirement& one : requirements) {
    for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
      const std::int64_t width = width_of(one.tap, spec, layer);
      if (one.reducer == "second_moment") {
        elements += width * width;
      } else if (one.with) {
        elements += width * width_of(*one.with, spec, layer);
      } else {
        elements += width;
      }
    }
  }
  return elements * kDoubleBytes;
}

}  // namespace

std::int64_t MemoryEstimate::total() const {
  std::int64_t sum = 0;
  for (const auto& [name, bytes] : items) sum += bytes;
  return sum;
}

MemoryEstimate estimate_training(const ModelSpec& spec, const TrainOptions& options, std::int64_t length,
                                 std::int64_t ranks, std::int64_t source, Products products) {
  const std::int64_t rows = options.batch_rows * options.accumulation, share = (rows + ranks - 1) / ranks;
  if (rows < ranks) {
    throw ConfigError(
        cat("train: batch_rows * accumulation = ", rows, " rows a step cannot be shared by ", ranks, " processes"));
  }
  const Shard shard = ranks > 1 ? options.shard : Shard::kNone;
  TrainOptions as_trained = options;
  as_trained.checkpoint_activations |= shard == Shard::kWeights;
  const StepMemory step = rehearse_step(spec, as_trained, std::min(options.batch_rows, share) * length, products);
  const Gradients gradients = gradients_of(spec, options);
  const std::int64_t total = gradients.total(), part = total / ranks;
  const Moment most = largest_moment(spec, step, gradients, handling_of(spec, options, gradients, share, ranks));
  const std::int64_t adapters = options.lora ? total : 0;
  // Trained weights of layers are as large as their gradients.
  const std::int64_t in_layers = std::accumulate(gradients.layers.begin(), gradients.layers.end(), std::int64_t{0});
  const std::int64_t elsewhere =
      shard == Shard::kWeights ? in_layers - largest_part_of_layers(gradients.parameters, total, ranks) - most.brought
                               : 0;
  return {ranks,
          {{"source model", source},
           {"weights", weight_bytes(spec) + adapters - elsewhere},
           {"gradients", most.gradients},
           {"optimizer states", 2 * (shard == Shard::kNone ? total : part)},
           {"activations", most.activations},
           {"logits", most.logits}}};
}

std::optional<MemoryEstimate> estimate_calibration(const CellPlan& cell) {
  if (cell.passes.empty() || !cell.options.calibration) return {};
  const Requirements requirements = cell.passes.front().pass->requirements();
  if (requirements.empty()) return {};
  // No gradients: one layer's activations at a time, of a batch.
  const CalibrationOptions batches;
  TrainOptions forward;
  forward.checkpoint_activations = true;
  const StepMemory step = rehearse_step(cell.spec, forward, batches.batch_tokens);
  const std::int64_t layer = *std::max_element(step.transient.begin(), step.transient.end());
  return MemoryEstimate{1,
                        {{"source model", weight_bytes(cell.spec)},
                         {"statistics", statistic_bytes(requirements, cell.spec)},
                         {"activations", layer}}};
}

std::optional<MemoryEstimate> estimate_decoding(const CellPlan& cell) {
  if (!cell.options.cache || needs_calibration(cell.options.cache->storage)) return {};
  const CachedPerplexityOptions& decoding = cell.options.cache->decoding;
  const ModelSpec spec = cell.planned();
  const auto bytes_of_window = [&](const CacheFormat& format) {
    return count_cache_bytes(spec, format, decoding.context, at::TensorOptions(at::kFloat)).predicted;
  };
  const CacheFormat format = cache_format(cell.options.cache->storage, "cache");
  const std::int64_t exact = decoding.divergence ? bytes_of_window({}) : 0;
  return MemoryEstimate{1,
                        {{"source model", weight_bytes(cell.spec)},
                         {"weights", weight_bytes(spec)},
                         {"cache", decoding.batch * (bytes_of_window(format) + exact)}}};
}

PhaseEstimates estimate_memory(const CellPlan& cell, std::int64_t ranks) {
  PhaseEstimates phases;
  if (auto calibration = estimate_calibration(cell)) {
    calibration->ranks = ranks;  // each process calibrates
    phases.emplace_back("calibration", *calibration);
  }
  for (const StagePlan& stage : cell.stages) {
    if (!stage.train) continue;
    const std::size_t passes = stage.first_pass + stage.passes;
    const ModelSpec& spec = passes == 0 ? cell.spec : cell.passes[passes - 1].after;
    const TrainConfig& train = *stage.train;
    const std::int64_t length =
        train.in_rows() && train.data.length > 0 ? train.data.length : train.options.sequence_length;
    phases.emplace_back(stage.title, estimate_training(spec, train.options, length, ranks, weight_bytes(cell.spec),
                                                       parse_products(cell.options.products, "products")));
  }
  if (auto decoding = estimate_decoding(cell)) {
    decoding->ranks = ranks;  // one of them decodes
    phases.emplace_back("cache", *decoding);
  }
  return phases;
}

Json to_json(const MemoryEstimate& estimate) {
  Json items = Json::object();
  for (const auto& [name, bytes] : estimate.items) items[name] = bytes;
  return {{"ranks", estimate.ranks}, {"bytes", items}, {"total", estimate.total()}};
}

void print_memory(const std::vector<PhaseEstimates>& by_ranks, std::ostream& out) {
  for (std::size_t phase = 0; phase < by_ranks.front().size(); ++phase) {
    std::vector<std::string> heading = {by_ranks.front()[phase].first + ", bytes a process"};
    for (const PhaseEstimates& one : by_ranks) {
      const std::int64_t ranks = one[phase].second.ranks;
      heading.push_back(cat(ranks, ranks == 1 ? " process" : " processes"));
    }
    Table table(heading);
    const auto add = [&](const std::string& name, const auto& bytes_of_estimate) {
      std::vector<std::string> row = {name};
      for (const PhaseEstimates& one : by_ranks) row.push_back(describe_bytes(bytes_of_estimate(one[phase].second)));
      table.add(row);
    };
    const auto& items = by_ranks.front()[phase].second.items;
    for (std::size_t item = 0; item < items.size(); ++item)
      add(items[item].first, [item](const MemoryEstimate& one) { return one.items[item].second; });
    add("all", [](const MemoryEstimate& one) { return one.total(); });
    table.print(out);
  }
}

}  // namespace mla
