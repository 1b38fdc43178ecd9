#include "core/evaluate/cache_samples.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/base/error.h"

namespace mla {
namespace {

using Observed = std::map<std::pair<std::int64_t, std::string>, at::Tensor>;

/// [1, heads, tokens, width] as [tokens, heads * width].
at::Tensor joined(const at::Tensor& rows) {
  return rows.detach().squeeze(0).transpose(0, 1).flatten(1).to(at::kCPU, at::kFloat).contiguous();
}

/// The mean loss of one sequence, through a cache that shows what it is given.
at::Tensor loss_of(const Decoder& decoder, const at::Tensor& ids, bool before_rotation, Observed& observed) {
  const CacheFormat format = [&](std::int64_t layer, const StreamShape& stream) {
    StreamStorage storage;
    storage.before_rotation = before_rotation && (stream.name == "key" || stream.name == "rope_key");
    storage.observe = [&observed, layer, name = stream.name](const at::Tensor& rows) {
      // The first layer's rows depend on nothing that has a gradient.
      if (rows.requires_grad()) {
        rows.retain_grad();
      } else {
        rows.requires_grad_(true);
      }
      observed[{layer, name}] = rows;
    };
    return storage;
  };
  const std::int64_t length = ids.size(1);
  DecoderCache cache = decoder.make_cache(1, format);
  const at::Tensor hidden = decoder.hidden_states_cached(ids, cache, DecodePath::kExpanded);
  const at::Tensor logits = decoder.logits(hidden.narrow(1, 0, length - 1)).flatten(0, 1);
  return at::cross_entropy_loss(logits, ids.narrow(1, 1, length - 1).flatten());
}

}  // namespace

CacheSamples sample_cache(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& sequences,
                          const CacheSampleOptions& options, const std::function<void(std::int64_t)>& progress) {
  const at::AutoGradMode with_gradients(true);
  std::map<std::pair<std::int64_t, std::string>, std::vector<StreamSample>> parts;
  std::int64_t seen = 0;
  for (const auto& sequence : sequences) {
    const std::int64_t length = std::min(options.context, static_cast<std::int64_t>(sequence.size()));
    if (length < 2) continue;
    if (seen >= options.tokens) break;
    const std::vector<std::int64_t> wide(sequence.begin(), sequence.begin() + length);
    const at::Tensor ids = at::tensor(wide, at::kLong).unsqueeze(0).to(decoder.device());
    Observed observed;
    loss_of(decoder, ids, options.before_rotation, observed).backward();
    for (const auto& [key, rows] : observed) {
      const at::Tensor gradient = rows.grad().defined() ? rows.grad() : at::zeros_like(rows);
      parts[key].push_back({joined(rows), joined(gradient).square()});
    }
    seen += length;
    if (progress) progress(length);
  }
  if (parts.empty()) throw DataError("calibration of the cache: expected a sequence of at least 2 tokens, found none");
  CacheSamples samples;
  for (const auto& [key, sequence_parts] : parts) {
    std::vector<at::Tensor> values, fisher;
    for (const StreamSample& part : sequence_parts) {
      values.push_back(part.values);
      fisher.push_back(part.fisher);
    }
    samples[key] = {at::cat(values), at::cat(fisher)};
  }
  return samples;
}

}  // namespace mla
