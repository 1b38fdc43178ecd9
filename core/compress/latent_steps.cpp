#include "core/compress/latent_steps.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/base/registry.h"
#include "core/compress/latent_assembly.h"

namespace mla {
namespace {

HeadGeometry head_geometry(const ModelSpec& spec, const HeadFields& heads) {
  return {spec.layer_count(), heads.heads, heads.kv_heads, heads.head_dim};
}

/// What a factorizer is told of a layer with partial RoPE: the other layers are as if they were like it.
FactorGeometry factor_geometry(const ModelSpec& partial, std::int64_t layer) {
  const AttentionSpec& attention = partial.attention(layer);
  const HeadFields heads = *attention.heads();
  return {partial.layer_count(), partial.hidden, heads.kv_heads, heads.head_dim,
          std::vector<std::int64_t>(partial.layers.size(), attention.rotated_pairs())};
}

bool has_partial_rope(const AttentionSpec& attention) {
  const LatentLayout* layout = latent_layout(attention);
  return layout && layout->is_partial_rope();
}

/// As many pairs for each KV head as will be chosen; which ones is not known yet.
KeptPairs some_pairs(std::int64_t count, std::int64_t kv_heads) {
  std::vector<std::int64_t> pairs(static_cast<std::size_t>(count));
  std::iota(pairs.begin(), pairs.end(), 0);
  return KeptPairs(static_cast<std::size_t>(kv_heads), pairs);
}

bool differ_by_head(const KeptPairs& kept) {
  return std::any_of(kept.begin(), kept.end(), [&](const auto& pairs) { return pairs != kept.front(); });
}

}  // namespace

RopeStep::RopeStep(const Json& options, std::string path)
    : path_(std::move(path)), selector_(Registry<RopeSelector>::instance().make(options, path_)) {}

Requirements RopeStep::requirements() const {
  return selector_->needs_norms() ? Requirements{kQueryPairNorms, kKeyPairNorms} : Requirements{};
}

void RopeStep::check(const ModelSpec& spec) const {
  std::optional<HeadFields> last;
  for (const LayerSpec& layer : spec.layers) {
    const std::optional<HeadFields> heads = grouped_query_heads(*layer.attention);
    if (heads && heads != last) selector_->check(head_geometry(spec, *heads), path_);
    if (heads) last = heads;
  }
}

LatentLayout RopeStep::plan(const ModelSpec& spec, std::int64_t layer) const {
  expect_dense(spec, layer, "self_attn.", path_);
  const HeadFields heads = *grouped_query_heads(spec.attention(layer));
  const HeadGeometry geometry = head_geometry(spec, heads);
  if (selector_->needs_norms()) {
    // Heads that may keep different pairs need QK-norm weights of their own; decided without looking at data.
    return partial_rope_layout(heads, some_pairs(selector_->pairs(layer, geometry), heads.kv_heads), true);
  }
  const KeptPairs kept = selector_->select(layer, geometry, nullptr);
  return partial_rope_layout(heads, kept, differ_by_head(kept));
}

std::unique_ptr<LatentAttention> RopeStep::apply(const ModelSpec& spec, const GroupedQueryAttention& source,
                                                 std::int64_t layer, const Statistics* statistics) const {
  const bool measured = selector_->needs_norms();
  const PairNorms norms = measured ? statistics->pair_norms(layer) : PairNorms{};
  const KeptPairs kept = selector_->select(layer, head_geometry(spec, source.heads()), measured ? &norms : nullptr);
  return assemble_partial_rope(source, kept, measured || differ_by_head(kept));
}

LowRankStep::LowRankStep(const Json& options, const Json& allocate, const std::string& path)
    : path_(path + ".low_rank"),
      factorizer_(Registry<Factorizer>::instance().make(options, path_)),
      allocator_(Registry<Allocator>::instance().make(allocate, path + ".allocate")) {
  name_ = options.at("name").get<std::string>();
}

Requirements LowRankStep::requirements() const {
  return factorizer_->needs_input_moment() ? Requirements{kInputMoment} : Requirements{};
}

void LowRankStep::check(const ModelSpec& partial) const {
  std::optional<FactorGeometry> last;
  for (std::int64_t layer = 0; layer < partial.layer_count(); ++layer) {
    if (!has_partial_rope(partial.attention(layer))) continue;
    expect_dense(partial, layer, "self_attn.", path_);
    if (partial.attention(layer).heads()->qk_norm && factorizer_->compresses_keys()) {
      throw ConfigError(
          cat(path_, ".name = ", name_, ": ", partial.family,
              " normalises its keys (QK-norm), which is not linear in the hidden state, so that keys cannot be "
              "rebuilt from a low-rank latent; exact here: none, value_svd"));
    }
    FactorGeometry geometry = factor_geometry(partial, layer);
    if (!last || last->kv_heads != geometry.kv_heads || last->head_dim != geometry.head_dim) {
      // Of layers with these heads each has its own pairs.
      for (std::int64_t other = 0; other < partial.layer_count(); ++other) {
        const AttentionSpec& attention = partial.attention(other);
        if (has_partial_rope(attention))
          geometry.pairs[static_cast<std::size_t>(other)] = std::min(attention.rotated_pairs(), geometry.head_dim / 2);
      }
      factorizer_->check(geometry, path_);
      last = geometry;
    }
  }
}

LatentLayout LowRankStep::plan(const ModelSpec& partial, std::int64_t layer) const {
  LatentLayout layout = *latent_layout(partial.attention(layer));
  const LatentShape shape = factorizer_->shape(layer, factor_geometry(partial, layer));
  layout.latent_width = shape.width;
  layout.key = shape.key;
  layout.value = shape.value;
  layout.key_up = shape.key_up;
  layout.value_up = shape.value_up;
  return layout;
}

void LowRankStep::announce(const ModelSpec& partial, DecompositionStore& store) const {
  if (!factorizer_->decomposes()) return;
  for (std::int64_t layer = 0; layer < partial.layer_count(); ++layer) {
    if (!has_partial_rope(partial.attention(layer))) continue;
    store.announce(kind_of(partial.attention(layer).rotated_pairs()), layer,
                   measures_widths() ? factorizer_->bounds(layer, factor_geometry(partial, layer)).most
                                     : factorizer_->latent_width(layer, factor_geometry(partial, layer)));
  }
}

std::string LowRankStep::kind_of(std::int64_t pairs) const { return Json{pairs, factorizer_->sharing_key()}.dump(); }

const Decomposition& LowRankStep::decomposition(const LatentAttention& attention, std::int64_t layer,
                                                std::int64_t width, const PassInputs& inputs,
                                                DecompositionStore& store) const {
  const KeptPairs& kept = attention.layout().kept;
  const bool measured = factorizer_->needs_input_moment();
  const std::string selection =
      Json{kept, c10::toString(inputs.arithmetic), measured ? inputs.statistics->rows_hash : std::string()}.dump();
  return store.get(kind_of(std::ssize(kept.front())), layer, selection, width, [&](std::int64_t largest) {
    LayerProblem problem = factor_problem(attention, inputs.arithmetic);
    if (measured) problem.input_moment = inputs.statistics->at(kInputMoment, layer);
    return factorizer_->decompose(problem, largest);
  });
}

std::vector<std::int64_t> LowRankStep::widths(const ModelSpec& partial,
                                              const std::vector<const LatentAttention*>& attentions,
                                              const PassInputs& inputs, DecompositionStore& store) const {
  std::vector<LayerShare> shares;
  for (std::size_t i = 0; i < attentions.size(); ++i) {
    if (attentions[i] == nullptr) continue;
    const auto layer = static_cast<std::int64_t>(i);
    const FactorGeometry geometry = factor_geometry(partial, layer);
    const WidthBounds bounds = factorizer_->bounds(layer, geometry);
    LayerShare& share =
        shares.emplace_back(LayerShare{bounds.least, bounds.most, factorizer_->latent_width(layer, geometry), {}});
    if (!measures_widths()) continue;
    const Decomposition& whole = decomposition(*attentions[i], layer, bounds.most, inputs, store);
    share.error = [&whole](std::int64_t width) { return whole.error(width); };
  }
  const std::vector<std::int64_t> allocated = allocator_->allocate(shares);
  std::vector<std::int64_t> widths;
  std::size_t next = 0;
  for (const LatentAttention* attention : attentions) widths.push_back(attention ? allocated.at(next++) : 0);
  return widths;
}

std::unique_ptr<LatentAttention> LowRankStep::apply(const ModelSpec& partial, const LatentAttention& attention,
                                                    std::int64_t layer, std::int64_t width, const PassInputs& inputs,
                                                    DecompositionStore& store, LayerReport& report) const {
  report.kept = attention.layout().kept;
  if (width == 0) width = factorizer_->latent_width(layer, factor_geometry(partial, layer));
  Factorization factors = decomposition(attention, layer, width, inputs, store).truncate(width);
  report.singular_values = std::move(factors.singular_values);
  report.value_singular_values = std::move(factors.value_singular_values);
  report.error = factors.error;
  return assemble_low_rank(attention, factors, inputs.weights);
}

bool is_to_convert(const AttentionSpec& attention, std::int64_t layer, const std::string& path) {
  if (grouped_query_heads(attention)) return true;
  if (attention.rotated_pairs() == 0 && !attention.latent_width()) return false;
  throw ConfigError(cat(path, ": layer ", layer, " is converted already; convert the source model"));
}

void set_latent(ModelSpec& spec, std::int64_t layer, LatentLayout layout) {
  auto& attention = spec.layers.at(static_cast<std::size_t>(layer)).attention;
  attention = std::make_shared<LatentSpec>(LatentSpec::Options{std::move(layout), *attention->heads()});
}

std::vector<LayerReport> for_each_layer(const Decoder& decoder, const PassInputs& inputs,
                                        const std::function<void(std::int64_t, LayerReport&)>& convert) {
  const c10::InferenceMode off(false);  // new weights may be trained later
  std::vector<LayerReport> reports;
  for (std::int64_t layer = 0; layer < decoder.spec().layer_count(); ++layer) {
    const auto start = std::chrono::steady_clock::now();
    convert(layer, reports.emplace_back());
    reports.back().seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (inputs.progress) inputs.progress(layer);
  }
  return reports;
}

}  // namespace mla
