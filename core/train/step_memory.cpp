#include "core/train/step_memory.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/device/counted_memory.h"
#include "core/model/initialize.h"

namespace mla {
namespace {

constexpr std::int64_t kFloatBytes = 4, kRoundedBytes = 2, kNarrow = 16, kFewWords = 32;
/// Two lengths give the part that grows with tokens and the one that does not.
constexpr std::int64_t kFewTokens = 64, kMoreTokens = 128;
/// accumulate_gradients() scores positions in parts of so many logits.
constexpr std::int64_t kLogitElements = std::int64_t{1} << 24;

/// The layers [begin, end) alone, all that does not belong to attention made small, or the vocabulary only.
ModelSpec excerpt(const ModelSpec& spec, std::size_t begin, std::size_t end, bool whole_layers) {
  ModelSpec part = spec;
  part.vocabulary = kFewWords;
  part.tied_embeddings = true;
  part.storage = {};
  part.layers.assign(spec.layers.begin() + static_cast<std::ptrdiff_t>(begin),
                     spec.layers.begin() + static_cast<std::ptrdiff_t>(end));
  for (LayerSpec& layer : part.layers) {
    if (!whole_layers) layer.feed_forward.width = std::min(layer.feed_forward.width, kNarrow);
    layer.storage = {};
  }
  return part;
}

struct Counts {
  std::int64_t kept = 0, transient = 0;
};

/// Bytes of one pass over a row of `tokens` tokens.
Counts count_pass(Decoder& decoder, std::int64_t tokens) {
  const at::AutoGradMode with_gradients(true);
  std::int64_t gradients = 0;
  decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (!tensor.requires_grad()) return;
    tensor.mutable_grad().reset();
    // The embedding's and the last norm's are not made.
    if (name.starts_with("model.layers.")) gradients += static_cast<std::int64_t>(tensor.nbytes());
  });
  const at::Tensor x = at::zeros({1, tokens, decoder.spec().hidden}).requires_grad_(true);
  ForwardContext context = decoder.context(tokens);
  CountedMemory memory;
  at::Tensor y = x;
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) y = decoder.apply_layer(i, y, context);
  context.slots.clear();
  Counts counts;
  counts.kept = memory.now();
  memory.forget_peak();
  y.backward(at::zeros_like(y));
  counts.transient = std::max<std::int64_t>(0, memory.peak() - counts.kept - gradients);
  return counts;
}

/// What a feed-forward part of real width adds, in elements of a token: two inner activations are kept, and their
/// gradients and the product are made of them; in float32 once more where they are kept in bfloat16.
constexpr std::int64_t kKeptInner = 2, kTransientInner = 3, kTransientOfRounded = 5;

/// With adapters a layer keeps other activations, by which of its maps have some: it is rehearsed as it is.
Counts rehearse_group(const ModelSpec& spec, const std::optional<LoraOptions>& lora, std::size_t begin, std::size_t end,
                      std::int64_t tokens, Products products) {
  Decoder decoder = initialize_decoder(excerpt(spec, begin, end, lora.has_value()), 0);
  decoder.products = products;
  const bool adapted = lora && adapter_elements(decoder.spec(), *lora) > 0;
  if (adapted) add_adapters(decoder, *lora, 0, "train.lora");
  std::optional<TrainableParameters> trained;
  if (adapted || !lora) trained.emplace(decoder, adapted ? kAdapterParameters : "all", "train.trainable");
  const Counts few = count_pass(decoder, kFewTokens), more = count_pass(decoder, kMoreTokens);
  const auto at_length = [&](std::int64_t first, std::int64_t second) {
    const double each = static_cast<double>(second - first) / static_cast<double>(kMoreTokens - kFewTokens);
    return first + std::llround(each * static_cast<double>(tokens - kFewTokens));
  };
  Counts counts{at_length(few.kept, more.kept), at_length(few.transient, more.transient)};
  if (lora) return counts;
  const bool rounds = products == Products::kBFloat16;
  std::int64_t widest = 0;
  for (std::size_t i = begin; i < end; ++i) {
    const std::int64_t width = spec.layers[i].feed_forward.width, missing = width - std::min(width, kNarrow);
    counts.kept += kKeptInner * missing * tokens * (rounds ? kRoundedBytes : kFloatBytes);
    widest = std::max(widest, width);
  }
  // The feed-forward part's backward pass and attention's are not at work at the same time.
  counts.transient =
      std::max(counts.transient,
               ((rounds ? kTransientOfRounded : kTransientInner) * widest + 2 * spec.hidden) * tokens * kFloatBytes);
  return counts;
}

bool same_layers(const ModelSpec& spec, std::size_t a, std::size_t b, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const LayerSpec &one = spec.layers[a + i], &other = spec.layers[b + i];
    if (one.attention->kind() != other.attention->kind() || one.attention->fields() != other.attention->fields() ||
        one.feed_forward != other.feed_forward)
      return false;
  }
  return true;
}

}  // namespace

StepMemory rehearse_step(const ModelSpec& spec, const TrainOptions& options, std::int64_t tokens, Products products) {
  StepMemory memory;
  const std::int64_t states = tokens * spec.hidden * kFloatBytes;
  const std::vector<std::size_t> groups = group_boundaries(spec);
  std::vector<Counts> counts;
  for (std::size_t g = 0; g + 1 < groups.size(); ++g) {
    const std::size_t begin = groups[g], size = groups[g + 1] - begin;
    std::optional<Counts> known;
    for (std::size_t before = 0; before < g && !known; ++before) {
      if (groups[before + 1] - groups[before] == size && same_layers(spec, groups[before], begin, size))
        known = counts[before];
    }
    counts.push_back(known ? *known : rehearse_group(spec, options.lora, begin, begin + size, tokens, products));
  }
  for (const Counts& one : counts) {
    memory.kept.push_back(options.checkpoint_activations ? states : one.kept);
    memory.transient.push_back(one.transient + (options.checkpoint_activations ? one.kept : 0));
  }
  memory.around = 4 * states;  // embedded, normalised, selected, and the gradient of those
  const std::int64_t scored = std::min(tokens, std::max<std::int64_t>(1, kLogitElements / spec.vocabulary));
  memory.logits = scored * (spec.vocabulary * (options.loss.distillation > 0 ? 2 : 1) + spec.hidden) * kFloatBytes;
  return memory;
}

}  // namespace mla
