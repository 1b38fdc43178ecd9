#include "core/compress/layers/key_value_factors.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/compress/layers/head_weights.h"
#include "core/compress/layers/latent_steps.h"
#include "core/low_rank/rank_factor.h"

namespace mla {

void KeyValueOptions::validate(const std::string& path) const {
  if (cached && *cached < 2)
    throw ConfigError(cat(path, ".cached = ", *cached, ": must be at least 2, one for keys and one for values"));
}

double KeyValueFactors::Factored::error(std::int64_t rank) const {
  double left = 0, all = 0;
  for (const TruncatedSvd& group : groups) {
    const at::Tensor squares = group.values.square();
    all += squares.sum().item<double>();
    left += squares.narrow(0, rank, squares.size(0) - rank).sum().item<double>();
  }
  return relative(left, all);
}

KeyValueFactors::KeyValueFactors(KeyValueOptions options, std::int64_t groups, const std::string& path)
    : options_(std::move(options)),
      groups_(groups),
      path_(path),
      allocator_(Registry<Allocator>::instance().make(options_.allocate, path + ".allocate")) {}

Requirements KeyValueFactors::requirements() const {
  Requirements all;
  for (const std::string& name : allocator_->statistics()) all.insert(named_requirement(name));
  return all;
}

KeyValueRanks KeyValueFactors::stated() const {
  const std::int64_t each = *options_.cached / groups_;
  return {each / 2, each - each / 2};
}

std::int64_t KeyValueFactors::largest(const HeadFields& heads, const ModelFrame& frame) const {
  return std::min(heads.kv_heads / groups_ * heads.head_dim, frame.hidden);
}

ModelSpec KeyValueFactors::plan(const ModelSpec& spec) const {
  return plan_each_layer(spec, path_, [&](std::int64_t layer, const HeadFields& heads) {
    if (heads.kv_heads % groups_ != 0)
      throw ConfigError(
          cat(path_, ".groups = ", groups_, ": must divide the ", heads.kv_heads, " KV heads of layer ", layer));
    const std::int64_t all = 2 * groups_ * largest(heads, spec);
    if (!options_.cached)
      throw ConfigError(cat(path_, ".cached: state how many values each layer caches per token; layer ", layer,
                            " has use for ", all));
    if (*options_.cached % groups_ != 0 || *options_.cached < 2 * groups_ || stated().value * 2 * groups_ > all) {
      throw ConfigError(cat(path_, ".cached = ", *options_.cached, ": must be from ", 2 * groups_, " to ", all,
                            groups_ > 1 ? cat(", a multiple of groups = ", groups_) : "", " (layer ", layer, ")"));
    }
    return factored(heads, stated());
  });
}

std::shared_ptr<const AttentionSpec> KeyValueFactors::factored(const HeadFields& heads, KeyValueRanks ranks) const {
  Json fields = write_fields(heads);
  fields["keys"] = "rebuilt";
  fields["key_heads"] = fields["value_heads"] = groups_;
  fields["key_width"] = ranks.key;
  fields["value_width"] = ranks.value;
  fields["value_up"] = true;
  return attention_of_kind("split_latent", fields);
}

KeyValueFactors::Factored KeyValueFactors::decompose(const at::Tensor& matrix, const Whitening& whitening) const {
  Factored all;
  const at::Tensor weighed = whitening.root.defined() ? at::mm(matrix, whitening.root.to(matrix.device())) : matrix;
  if (whitening.inverse.defined()) all.inverse = whitening.inverse.to(matrix.device());
  for (const at::Tensor& rows : weighed.chunk(groups_, 0))
    all.groups.push_back(truncated_svd(rows.contiguous(), std::min(rows.size(0), rows.size(1)), {.method = "exact"}));
  return all;
}

std::vector<LayerReport> KeyValueFactors::apply(Decoder& decoder, const PassInputs& inputs, const WhitenInputs& whiten,
                                                const ShareKeyValueRanks& share) const {
  const ModelSpec source = decoder.spec();
  std::vector<Factored> keys, values;
  for (std::int64_t layer = 0; layer < source.layer_count(); ++layer) {
    const HeadWeights weights =
        head_weights(*as_grouped_query(*decoder.layers[static_cast<std::size_t>(layer)].attention));
    const Whitening whitening = whiten ? whiten(inputs.statistics, layer) : Whitening{};
    keys.push_back(decompose(weights.key, whitening));
    values.push_back(decompose(weights.value, whitening));
  }
  std::vector<KeyValueRanks> ranks;
  if (share) {
    ranks = shared(source, share);
  } else {
    const std::vector<std::int64_t> of_keys = allocated(source, keys, stated().key, inputs),
                                    of_values = allocated(source, values, stated().value, inputs);
    for (std::size_t i = 0; i < of_keys.size(); ++i) ranks.push_back({of_keys[i], of_values[i]});
  }
  return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
    const auto index = static_cast<std::size_t>(layer);
    decoder.replace_attention(index, assemble(source, *decoder.layers[index].attention, keys[index], values[index],
                                              ranks[index], inputs, report));
  });
}

std::vector<KeyValueRanks> KeyValueFactors::shared(const ModelSpec& source, const ShareKeyValueRanks& share) const {
  std::vector<KeyValueRanks> most;
  for (std::int64_t layer = 0; layer < source.layer_count(); ++layer) {
    const std::int64_t all = largest(*source.attention(layer).heads(), source);
    most.push_back({all, all});
  }
  return share(most, source.layer_count() * (stated().key + stated().value));
}

std::vector<std::int64_t> KeyValueFactors::allocated(const ModelSpec& source, const std::vector<Factored>& factors,
                                                     std::int64_t rank, const PassInputs& inputs) const {
  std::vector<LayerShare> shares;
  for (std::int64_t layer = 0; layer < source.layer_count(); ++layer) {
    const Factored& own = factors[static_cast<std::size_t>(layer)];
    LayerShare& share = shares.emplace_back(LayerShare{1, largest(*source.attention(layer).heads(), source), rank, {}});
    share.error = [&own](std::int64_t width) { return own.error(width); };
    for (const std::string& name : allocator_->statistics())
      share.measured[name] = inputs.statistics->at(named_requirement(name), layer);
  }
  return allocator_->allocate(shares);
}

std::unique_ptr<Attention> KeyValueFactors::assemble(const ModelSpec& source, Attention& attention,
                                                     const Factored& keys, const Factored& values, KeyValueRanks ranks,
                                                     const PassInputs& inputs, LayerReport& report) const {
  const GroupedQueryAttention& grouped = *as_grouped_query(attention);
  const HeadWeights weights = head_weights(grouped);
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> maps;
  const auto cut = [&](const std::string& name, const at::Tensor& matrix, const Factored& factors, std::int64_t rank,
                       const at::Tensor& bias, std::vector<double>& kept) {
    std::vector<at::Tensor> downs, ups, products;
    for (const TruncatedSvd& group : factors.groups) {
      const at::Tensor right = group.right.narrow(0, 0, rank);
      downs.push_back(factors.inverse.defined() ? at::mm(right, factors.inverse) : right);
      ups.push_back((group.left * group.values).narrow(1, 0, rank));
      products.push_back(at::mm(ups.back(), downs.back()));
      const at::Tensor leading = group.values.narrow(0, 0, rank).to(at::kCPU, at::kDouble).contiguous();
      kept.insert(kept.end(), leading.const_data_ptr<double>(), leading.const_data_ptr<double>() + rank);
    }
    maps[name + "_proj"] = {at::cat(downs), {}};
    maps[name + "_up_proj"] = {at::cat(ups), bias};
    return squared_norm(matrix - at::cat(products));
  };
  const double key_error = cut("k", weights.key, keys, ranks.key, grouped.weights().key.bias(), report.singular_values);
  const double value_error =
      cut("v", weights.value, values, ranks.value, grouped.weights().value.bias(), report.value_singular_values);
  report.error = relative_error(weights.key, key_error, weights.value, value_error);
  return rebuild_attention(*factored(grouped.heads(), ranks), source, attention, maps, inputs.weights);
}

Requirements WhitenedFactors::requirements() const {
  Requirements all = factors_.requirements();
  all.insert(statistic_);
  return all;
}

std::vector<LayerReport> WhitenedFactors::apply(Decoder& decoder, const PassInputs& inputs) const {
  return factors_.apply(decoder, inputs, [this](const Statistics* statistics, std::int64_t layer) {
    return whitening(statistics->at(statistic_, layer), layer);
  });
}

}  // namespace mla
