// What a latent attention layer is, apart from its weights.
#include <functional>
#include <set>
#include <tuple>
#include <utility>

#include "core/attention/latent.h"
#include "core/attention/limits.h"
#include "core/base/error.h"
#include "core/base/registry.h"

namespace mla {
namespace {

using Refuse = std::function<void(const std::string&)>;

void check_pairs(const LatentLayout& layout, const HeadFields& heads, const ModelFrame& frame, const Refuse& refuse) {
  if (layout.rope_heads() != 1 && layout.rope_heads() != heads.kv_heads) {
    refuse(cat("kept_pairs has ", layout.rope_heads(), " entries; expected 1 or ", heads.kv_heads));
  }
  for (const auto& pairs : layout.kept) {
    if (pairs.size() != layout.kept.front().size()) refuse("kept_pairs: every head needs the same number of pairs");
    for (const std::int64_t pair : pairs) {
      if (pair < 0 || pair >= frame.rope_dim / 2)
        refuse(cat("kept_pairs: ", pair, " is not a pair of head_dim ", frame.rope_dim));
    }
    // In a key that was read from DeepSeek's form, pairs of all KV heads may stand side by side.
    if (!layout.latent_norm && std::set<std::int64_t>(pairs.begin(), pairs.end()).size() != pairs.size())
      refuse("kept_pairs: a head has a pair twice");
  }
}

void check_slice(const char* name, const LatentSlice& slice, std::int64_t latent_width, const Refuse& refuse) {
  if (slice.begin < 0 || slice.width < 0 || slice.begin > latent_width || slice.width > latent_width - slice.begin) {
    refuse(cat(name, ": expected [begin, width] within the latent of ", latent_width, " elements"));
  }
}

/// Bounds under which products of these widths stay far below 2^63; weights of other shapes are refused later.
void check_widths(const LatentLayout& layout, const Refuse& refuse) {
  for (const auto& [name, width, least, most] :
       {std::tuple{"content_width", layout.content_width, std::int64_t{0}, kMostHeadDim},
        {"value_width", layout.value_width, std::int64_t{1}, kMostHeadDim},
        {"latent_width", layout.latent_width, std::int64_t{1}, 2 * kMostHeadRows}}) {
    if (width < least || width > most) refuse(cat(name, " = ", width, ": must be from ", least, " to ", most));
  }
  if (layout.rope_width() == 0 && layout.content_width == 0) refuse("keys have neither rotated nor other dims");
  check_slice("key_slice", layout.key, layout.latent_width, refuse);
  check_slice("value_slice", layout.value, layout.latent_width, refuse);
}

const Registration<AttentionSpec, LatentSpec> kLatent(
    "latent", "latent attention: keys and values are rebuilt from a cached latent, beside a few rotated key dims");

}  // namespace

Json LatentSpec::fields() const {
  Json all = write_fields(options_);
  if (!options_.layout.latent_norm) all.erase("latent_norm");  // as files had it before
  return all;
}

void LatentSpec::check(const ModelFrame& frame, const std::string& where) const {
  const LatentLayout& layout = options_.layout;
  const HeadFields& heads = options_.heads;
  const auto refuse = [&](const std::string& what) { throw ConfigError(cat(where, ": ", what)); };
  check_latent_heads(heads, frame, where);
  check_pairs(layout, heads, frame, refuse);
  check_widths(layout, refuse);
  if (!layout.key_up && layout.key.width != heads.kv_heads * layout.content_width)
    refuse("key_slice has another width than the keys");
  if (!layout.value_up && layout.value.width != heads.kv_heads * layout.value_width)
    refuse("value_slice has another width than the values");
  if (heads.qk_norm && (layout.key_up || layout.rope_heads() != heads.kv_heads))
    refuse("a model with QK-norm needs key_up = false and kept_pairs for each KV head");
  if (heads.qk_norm && layout.latent_norm) refuse("latent_norm: none where keys are normalised");
}

std::vector<Parameter> LatentSpec::parameters(const ModelFrame& frame) const {
  const LatentLayout& layout = options_.layout;
  const HeadFields& heads = options_.heads;
  const std::int64_t query_width = layout.rope_width() + layout.content_width;
  const std::int64_t key_rows = heads.kv_heads * layout.content_width, value_rows = heads.kv_heads * layout.value_width;
  std::vector<Parameter> all;
  const auto up = [&](const std::string& name, bool has_weight, bool has_bias, std::int64_t rows,
                      std::int64_t columns) {
    if (has_weight) all.push_back({name + ".weight", {rows, columns}, ParameterRole::kWeight, Tap::kLatent});
    if (has_bias) all.push_back({name + ".bias", {rows}, ParameterRole::kBias, {}});
  };
  add_projection(all, "q_proj", heads.heads * query_width, frame.hidden, heads.query_bias, Tap::kAttentionInput);
  add_projection(all, "k_rope_proj", layout.rope_heads() * layout.rope_width(), frame.hidden, heads.key_bias,
                 Tap::kAttentionInput);
  add_projection(all, "kv_down_proj", layout.latent_width, frame.hidden, false, Tap::kAttentionInput);
  up("k_up_proj", layout.key_up, heads.key_bias, key_rows, layout.key.width);
  up("v_up_proj", layout.value_up, heads.value_bias, value_rows, layout.value.width);
  add_projection(all, "o_proj", frame.hidden, heads.heads * layout.value_width, heads.output_bias,
                 Tap::kAttentionContext, ParameterRole::kResidual);
  if (heads.qk_norm) {
    const auto norm = [&](const char* name, std::int64_t count) {
      const std::vector<std::int64_t> shape =
          layout.norms_per_head ? std::vector{count, query_width} : std::vector{query_width};
      all.push_back({name, shape, ParameterRole::kNorm, {}});
    };
    norm("q_norm.weight", heads.heads);
    norm("k_norm.weight", heads.kv_heads);
  }
  if (layout.latent_norm) all.push_back({"kv_norm.weight", {layout.latent_width}, ParameterRole::kNorm, {}});
  return all;
}

std::vector<StreamShape> LatentSpec::streams() const {
  const LatentLayout& layout = options_.layout;
  return {{"rope_key", layout.rope_heads(), layout.rope_width()}, {"latent", 1, layout.latent_width}};
}

double LatentSpec::cached_operations() const {
  const LatentLayout& layout = options_.layout;
  const std::int64_t key = layout.key_up ? layout.key.width : layout.content_width;
  const std::int64_t value = layout.value_up ? layout.value.width : layout.value_width;
  return 2 * static_cast<double>(options_.heads.heads * (layout.rope_width() + key + value));
}

double LatentSpec::expanded_operations() const {
  const LatentLayout& layout = options_.layout;
  return 2 *
         static_cast<double>(options_.heads.heads * (layout.rope_width() + layout.content_width + layout.value_width));
}

/// Factors have a basis of their own in every layer; rows of partial RoPE alone are those of the source.
bool LatentSpec::can_be_averaged(const AttentionSpec& other) const {
  return options_.layout.is_partial_rope() && *this == other;
}

std::unique_ptr<Attention> LatentSpec::build(const ModelFrame& frame, LayerWeights weights) const {
  LatentAttention::Weights parts{
      weights.map("q_proj"),           weights.map("k_rope_proj"),      weights.map("kv_down_proj"),
      weights.map("k_up_proj"),        weights.map("v_up_proj"),        weights.map("o_proj"),
      weights.tensor("q_norm.weight"), weights.tensor("k_norm.weight"), weights.tensor("kv_norm.weight")};
  return std::make_unique<LatentAttention>(frame, options_.heads, options_.layout, std::move(parts));
}

const LatentLayout* latent_layout(const AttentionSpec& spec) {
  const auto* latent = dynamic_cast<const LatentSpec*>(&spec);
  return latent ? &latent->layout() : nullptr;
}

}  // namespace mla
