#include "core/compress/layers/latent_steps.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/base/registry.h"
#include "core/compress/layers/latent_assembly.h"
#include "core/low_rank/condition_numbers.h"

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
          std::vector<std::int64_t>(partial.layers.size(), latent_layout(attention)->content_width)};
}

/// `spec` with another latent layout in one layer, whose maps are dense but for the output projection, which stays.
void set_latent(ModelSpec& spec, std::int64_t layer, LatentLayout layout) {
  LayerSpec& own = spec.layers.at(static_cast<std::size_t>(layer));
  auto& attention = own.attention;
  std::erase_if(own.storage, [](const auto& entry) {
    return entry.first.starts_with("self_attn.") && entry.first != "self_attn.o_proj";
  });
  attention = std::make_shared<LatentSpec>(LatentSpec::Options{std::move(layout), *attention->heads()});
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

KeptPairs no_pairs(const HeadFields& heads) { return KeptPairs(static_cast<std::size_t>(heads.kv_heads)); }

/// Whether position-free keys are combinations of the source's dims, and not some of them.
bool is_mixed(const LatentLayout& layout) { return layout.rope_width() + layout.content_width != layout.value_width; }

bool differ_by_head(const KeptPairs& kept) {
  return std::any_of(kept.begin(), kept.end(), [&](const auto& pairs) { return pairs != kept.front(); });
}

}  // namespace

Requirement named_requirement(const std::string& name) {
  const std::optional<Requirement> requirement = Requirement::parse(name);
  expects(requirement.has_value(), cat("a statistic is called ", name));
  return *requirement;
}

RopeStep::RopeStep(const Json& options, std::string path)
    : pass_path_(std::move(path)),
      path_(pass_path_ + ".rope"),
      rotation_(Registry<RotationStrategy>::instance().make(options, path_)) {
  for (const std::string& name : rotation_->measures()) measured_.insert(named_requirement(name));
}

void RopeStep::check(const ModelSpec& spec) const {
  std::optional<HeadFields> last;
  for (const LayerSpec& layer : spec.layers) {
    const std::optional<HeadFields> heads = grouped_query_heads(*layer.attention);
    if (!heads || heads == last) continue;
    if (const std::string reason = only_grouped_query(*heads); !reason.empty())
      throw ConfigError(cat(pass_path_, ": ", spec.family, ": ", reason));
    if (heads->qk_norm && rotation_->mixes_dims()) {
      throw ConfigError(cat(path_, ".name: ", spec.family,
                            " normalises its keys (QK-norm), each dim with a weight of its own, so that dims cannot be "
                            "mixed; a strategy that picks pairs serves it"));
    }
    rotation_->check(head_geometry(spec, *heads), path_);
    last = heads;
  }
}

bool RopeStep::converts(const ModelSpec& spec, std::int64_t layer) const {
  const AttentionSpec& attention = spec.attention(layer);
  if (grouped_query_heads(attention)) return true;
  if (attention.rotated_pairs() == 0 && !attention.latent_width()) return false;
  throw ConfigError(cat(pass_path_, ": layer ", layer, " is converted already; convert the source model"));
}

ModelSpec RopeStep::plan(const ModelSpec& spec) const {
  check(spec);
  ModelSpec planned = spec;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    if (converts(spec, layer)) set_latent(planned, layer, layout(spec, layer));
  }
  return planned;
}

LatentLayout RopeStep::layout(const ModelSpec& spec, std::int64_t layer) const {
  expect_convertible(spec, layer, "self_attn.", path_);
  const HeadFields heads = *grouped_query_heads(spec.attention(layer));
  if (heads.rope == RopeUse::kNone) return partial_rope_layout(heads, no_pairs(heads), heads.head_dim, false);
  const HeadGeometry geometry = head_geometry(spec, heads);
  const RotationShape shape = rotation_->shape(layer, geometry);
  if (!measured_.empty()) {
    // Heads that may keep different pairs need QK-norm weights of their own; decided without looking at data.
    return partial_rope_layout(heads, some_pairs(shape.pairs, shape.shared ? 1 : heads.kv_heads), shape.content_width,
                               true);
  }
  const KeptPairs kept = rotation_->rotation(layer, geometry, {}).kept;
  return partial_rope_layout(heads, kept, shape.content_width, differ_by_head(kept));
}

std::unique_ptr<LatentAttention> RopeStep::apply(const ModelSpec& spec, const GroupedQueryAttention& source,
                                                 std::int64_t layer, const Statistics* statistics) const {
  // Nothing is rotated there: all of a key goes into the latent.
  if (source.heads().rope == RopeUse::kNone) {
    KeyRotation still;
    still.kept = no_pairs(source.heads());
    return assemble_partial_rope(source, still, false);
  }
  LayerMeasures measures;
  for (const Requirement& requirement : measured_) measures[requirement.name()] = statistics->at(requirement, layer);
  const KeyRotation rotation = rotation_->rotation(layer, head_geometry(spec, source.heads()), measures);
  return assemble_partial_rope(source, rotation, !measured_.empty() || differ_by_head(rotation.kept));
}

LowRankStep::LowRankStep(const Json& options, const Json& allocate, const std::string& path)
    : path_(path + ".low_rank"),
      factorizer_(Registry<Factorizer>::instance().make(options, path_)),
      allocator_(Registry<Allocator>::instance().make(allocate, path + ".allocate")) {
  name_ = options.at("name").get<std::string>();
}

Requirements LowRankStep::requirements() const {
  Requirements all;
  if (factorizer_->needs_input_moment()) all.insert(kInputMoment);
  if (factorizer_->needs_attention_metrics()) all.insert(kInputMean);
  for (const std::string& name : allocator_->statistics()) all.insert(named_requirement(name));
  return all;
}

void LowRankStep::check_walk(const Requirements& measured, const std::string& path) const {
  if (measured.empty())
    throw ConfigError(cat(path, ".inputs = converted: nothing here is measured on data; leave it out"));
  if (measures_widths()) {
    throw ConfigError(cat(path, ".inputs = converted: ", path,
                          ".allocate decides on widths after it has measured all layers; allocate uniform, or leave "
                          "inputs out"));
  }
}

void LowRankStep::check(const ModelSpec& partial) const {
  std::optional<FactorGeometry> last;
  for (std::int64_t layer = 0; layer < partial.layer_count(); ++layer) {
    if (!has_partial_rope(partial.attention(layer))) continue;
    expect_convertible(partial, layer, "self_attn.", path_);
    if (partial.attention(layer).heads()->qk_norm && factorizer_->compresses_keys()) {
      throw ConfigError(
          cat(path_, ".name = ", name_, ": ", partial.family,
              " normalises its keys (QK-norm), which is not linear in the hidden state, so that keys cannot be "
              "rebuilt from a low-rank latent; exact here: none, value_svd; for others list fold_qk_norm before"));
    }
    FactorGeometry geometry = factor_geometry(partial, layer);
    if (!last || last->kv_heads != geometry.kv_heads || last->head_dim != geometry.head_dim) {
      // Of layers with these heads each has its own pairs.
      for (std::int64_t other = 0; other < partial.layer_count(); ++other) {
        const AttentionSpec& attention = partial.attention(other);
        if (has_partial_rope(attention))
          geometry.content[static_cast<std::size_t>(other)] = latent_layout(attention)->content_width;
      }
      factorizer_->check(geometry, path_);
      last = geometry;
    }
  }
}

ModelSpec LowRankStep::plan(const ModelSpec& partial) const {
  check(partial);
  ModelSpec planned = partial;
  for (std::int64_t layer = 0; layer < partial.layer_count(); ++layer) {
    if (has_partial_rope(partial.attention(layer))) set_latent(planned, layer, layout(partial, layer));
  }
  return planned;
}

LatentLayout LowRankStep::layout(const ModelSpec& partial, std::int64_t layer) const {
  LatentLayout factored = *latent_layout(partial.attention(layer));
  const LatentShape shape = factorizer_->shape(layer, factor_geometry(partial, layer));
  factored.latent_width = shape.width;
  factored.key = shape.key;
  factored.value = shape.value;
  factored.key_up = shape.key_up;
  factored.value_up = shape.value_up;
  return factored;
}

void LowRankStep::announce(const ModelSpec& partial, DecompositionStore& store) const {
  if (!factorizer_->decomposes()) return;
  for (std::int64_t layer = 0; layer < partial.layer_count(); ++layer) {
    if (!has_partial_rope(partial.attention(layer))) continue;
    store.announce(kind_of(*latent_layout(partial.attention(layer))), layer,
                   measures_widths() ? factorizer_->bounds(layer, factor_geometry(partial, layer)).most
                                     : factorizer_->latent_width(layer, factor_geometry(partial, layer)));
  }
}

std::string LowRankStep::kind_of(const LatentLayout& partial) const {
  Json kind = {partial.rope_width() / 2, factorizer_->sharing_key()};
  if (is_mixed(partial)) kind.push_back({partial.rope_heads(), partial.content_width});
  return kind.dump();
}

const Decomposition& LowRankStep::decomposition(const LatentAttention& attention, std::int64_t layer,
                                                std::int64_t width, const PassInputs& inputs,
                                                DecompositionStore& store) const {
  const KeptPairs& kept = attention.layout().kept;
  const bool measured = factorizer_->needs_input_moment();
  Json selection{kept, c10::toString(inputs.arithmetic), measured ? inputs.statistics->rows_hash : std::string()};
  // Which dims were picked follows from the pairs; how they were mixed does not.
  if (is_mixed(attention.layout())) selection.push_back(latent_hash(attention));
  return store.get(kind_of(attention.layout()), layer, selection.dump(), width, [&](std::int64_t largest) {
    LayerProblem problem = factor_problem(attention, inputs.arithmetic);
    if (measured) problem.input_moment = inputs.statistics->at(kInputMoment, layer);
    if (factorizer_->needs_attention_metrics())
      add_attention_metrics(problem, attention, inputs.statistics->at(kInputMean, layer));
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
    for (const std::string& name : allocator_->statistics())
      share.measured[name] = inputs.statistics->at(named_requirement(name), layer);
    if (!measures_widths()) continue;
    share.log_condition = [attention = attentions[i]] {
      const LayerProblem problem = factor_problem(*attention, at::kDouble);
      return log_condition(problem.key) + log_condition(problem.value);
    };
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
