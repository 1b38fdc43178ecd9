#include "core/serve/served_layout.h"

#include <algorithm>
#include <tuple>

#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kOwnCode =
    "--format transformers_code writes code of its own beside the model, or keep the model here";

/// Pairs as a list in a message, shortened.
std::string listed(const std::vector<std::int64_t>& pairs) {
  constexpr std::size_t kShown = 8;
  std::string all;
  for (std::size_t i = 0; i < std::min(kShown, pairs.size()); ++i) all += cat(i > 0 ? "," : "", pairs[i]);
  return pairs.size() > kShown ? all + ",…" : all;
}

void check_model(const ModelSpec& spec, const std::string& where) {
  if (spec.layers.empty()) throw ConfigError(cat(where, ": the model has no layers"));
  refuse_other_blocks(spec, where);
  refuse_rotation_by_length(spec, where);
}

void check_layer(const ModelSpec& spec, std::size_t index, const std::string& where) {
  const LayerSpec& layer = spec.layers[index];
  const std::string own = cat(where, ": layer ", index);
  const HeadFields heads = layer.attention->heads().value_or(HeadFields());
  if (heads.qk_norm)
    throw ConfigError(cat(own, " normalises queries and keys (QK-norm), for which no engine's multi-head latent ",
                          "attention has a place; ", kOwnCode));
  if (heads.window > 0 && heads.window < spec.max_positions)
    throw ConfigError(cat(own, " has a sliding window of ", heads.window, " tokens, which no engine's multi-head ",
                          "latent attention has; ", kOwnCode));
  if (layer.feed_forward.bias)
    throw ConfigError(cat(own, " has biases in its feed-forward part, which DeepSeek's has not; ", kOwnCode));
  if (layer.feed_forward.width != spec.layers.front().feed_forward.width)
    throw ConfigError(cat(own, " has a feed-forward part ", layer.feed_forward.width, " wide and layer 0 one of ",
                          spec.layers.front().feed_forward.width, ": other engines want all layers alike; ", kOwnCode));
  if (const LatentLayout* layout = latent_layout(*layer.attention)) {
    if (!layout->latent_norm) return;
    throw ConfigError(cat(own, " normalises its latent: the model was read from a folder that is served already; ",
                          "that folder serves as it is"));
  }
  const bool converted = layer.attention->latent_width() || layer.attention->rotated_pairs() == 0;
  throw ConfigError(cat(own, " is of kind ", layer.attention->kind(), ", and other engines hold kind latent alone; ",
                        converted ? "convert with mha2mla, transmla, care or mkla with servable = true"
                                  : "convert the model first (mlaforge convert); unconverted, its own folder serves"));
}

void check_same(const LatentLayout& layout, const LatentLayout& first, std::size_t index, std::int64_t most_latent,
                const std::string& where) {
  for (const auto& [name, width, expected] :
       {std::tuple{"position-free dims of a head", layout.content_width, first.content_width},
        {"dims of a value head", layout.value_width, first.value_width},
        {"rotated dims of a head", layout.rope_width(), first.rope_width()}}) {
    if (width != expected)
      throw ConfigError(cat(where, ": layer ", index, " has ", width, " ", name, " and layer 0 has ", expected,
                            ": other engines want all layers alike; convert with one number for all, or ", kOwnCode));
  }
  if (most_latent == 0 && layout.latent_width != first.latent_width)
    throw ConfigError(cat(where, ": layer ", index, " has a latent of ", layout.latent_width, " elements and layer 0 ",
                          "one of ", first.latent_width, ": other engines want all layers alike; --pad makes all as ",
                          "wide as engines like them best, at the price of cache, or ", kOwnCode));
  if (most_latent > 0 && layout.latent_width > most_latent)
    throw ConfigError(cat(where, ": layer ", index, " has a latent of ", layout.latent_width,
                          " elements, which cannot be padded to ", most_latent, "; leave out --pad"));
  const std::vector<std::int64_t> own = rotated_places(layout).pairs, zeroth = rotated_places(first).pairs;
  if (own != zeroth)
    throw ConfigError(cat(where, ": layer ", index, " rotates pairs ", listed(own), " and layer 0 pairs ",
                          listed(zeroth), ": other engines have one rotary table for all layers; convert with one ",
                          "set for all (--rope comb, high or uniform), or ", kOwnCode));
}

}  // namespace

void refuse_other_blocks(const ModelSpec& spec, const std::string& where) {
  std::vector<std::string> parts;
  const auto add = [&](bool has, const char* part) {
    if (has && std::find(parts.begin(), parts.end(), part) == parts.end()) parts.emplace_back(part);
  };
  add(spec.norms != NormPlacement::kBefore, "norms behind attention and feed-forward parts");
  add(spec.norms_add_one, "norms whose weights are counted from one");
  add(spec.embedding_scale != 1, "scaled embeddings");
  add(spec.logit_cap != 0, "capped logits");
  for (const LayerSpec& layer : spec.layers) {
    const HeadFields heads = layer.attention->heads().value_or(HeadFields());
    add(layer.feed_forward.activation != Activation::kSilu, "a gate other than SiLU");
    add(heads.rope != RopeUse::kModel, "layers that rotate otherwise or not at all");
    add(heads.query_scalar != 0, "a softmax scale of its own");
    add(heads.soft_cap != 0, "capped attention logits");
    add(heads.qk_norm_whole, "queries and keys normalised over all heads");
  }
  if (!parts.empty())
    throw ConfigError(cat(where, ": the family ", spec.family, " has ", join(parts), ", for which DeepSeek's form has ",
                          "no place; export models of llama, mistral, qwen2, or keep the model here"));
}

void refuse_rotation_by_length(const ModelSpec& spec, const std::string& where) {
  if (!spec.rotary().depends_on_length()) return;
  throw ConfigError(cat(where, ": rope_scaling = ", spec.rope_scaling.type, " changes frequencies with a text's ",
                        "length, for which what is written has no place; convert a model with fixed ones (default, ",
                        "linear, llama3, yarn), or keep the model here"));
}

RotatedPlaces rotated_places(const LatentLayout& layout) {
  std::vector<std::tuple<std::int64_t, std::size_t, std::size_t>> all;  // pair, key, number within the key
  for (std::size_t key = 0; key < layout.kept.size(); ++key) {
    for (std::size_t i = 0; i < layout.kept[key].size(); ++i) all.emplace_back(layout.kept[key][i], key, i);
  }
  std::sort(all.begin(), all.end());
  RotatedPlaces placed;
  placed.places.resize(layout.kept.size());
  for (std::size_t key = 0; key < layout.kept.size(); ++key) placed.places[key].resize(layout.kept[key].size());
  for (const auto& [pair, key, i] : all) {
    placed.places[key][i] = static_cast<std::int64_t>(placed.pairs.size());
    placed.pairs.push_back(pair);
  }
  return placed;
}

std::vector<const LatentLayout*> servable_layouts(const ModelSpec& spec, std::int64_t most_latent,
                                                  const std::string& where) {
  check_model(spec, where);
  std::vector<const LatentLayout*> layouts;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    check_layer(spec, i, where);
    layouts.push_back(latent_layout(*spec.layers[i].attention));
    check_same(*layouts.back(), *layouts.front(), i, most_latent, where);
    if (spec.layers[i].attention->heads()->heads != spec.layers.front().attention->heads()->heads)
      throw ConfigError(cat(where, ": layer ", i, " has another number of query heads than layer 0; ", kOwnCode));
  }
  return layouts;
}

}  // namespace mla
