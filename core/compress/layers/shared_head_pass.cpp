#include "core/compress/layers/shared_head_pass.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/compress/layers/head_weights.h"
#include "core/compress/layers/latent_steps.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

/// As many pairs as a key has: which frequencies they have follows from data.
std::vector<std::int64_t> pairs_of_any_frequency(std::int64_t count, const HeadFields& heads) {
  std::vector<std::int64_t> pairs;
  for (std::int64_t i = 0; i < count; ++i) pairs.push_back(i % (heads.head_dim / 2));
  return pairs;
}

void check_query_rank(std::int64_t rank, std::int64_t query_width, const ModelSpec& spec, const std::string& path) {
  const std::int64_t most = std::min(query_width, spec.hidden);
  if (rank < 0 || rank > most) {
    throw ConfigError(cat(path, ".query_rank = ", rank, ": queries of ", query_width, " elements made of ", spec.hidden,
                          " have a rank of at most ", most, "; 0: one matrix, exact"));
  }
}

/// The maps of the queries: one, or two where there is a rank.
void add_queries(ChangedMaps& maps, const at::Tensor& query, const at::Tensor& pair_energy, const at::Tensor& moment,
                 std::int64_t rank, bool bias) {
  const auto [weight, offset] = split_bias(query, bias);
  if (rank == 0) {
    maps["q_proj"] = {weight, offset};
    return;
  }
  const FactoredQueries factors = factored_queries(weight, pair_energy, moment, rank);
  maps["q_down_proj"] = {factors.down, {}};
  maps["q_up_proj"] = {factors.up, offset};
}

}  // namespace

void check_even_width(std::int64_t width, std::int64_t most, const std::string& described, const std::string& most_is) {
  if (width < 2 || width % 2 != 0 || width > most)
    throw ConfigError(cat(described, ": must be even, from 2 to ", most, " (", most_is, "); 0: its default"));
}

std::pair<at::Tensor, at::Tensor> split_bias(const at::Tensor& biased, bool bias) {
  const std::int64_t inputs = biased.size(1) - 1;
  return {biased.narrow(1, 0, inputs), bias ? biased.select(1, inputs) : at::Tensor()};
}

Requirements SharedHeadPass::requirements() const {
  const bool exact = options_.width == PerLayer(0) && options_.second == PerLayer(0) && options_.query_rank == 0;
  if (exact || options_.metric == SharedHeadMetric::kWeights) return {};
  return {kInputMoment, kInputMean};
}

std::string SharedHeadPass::described_width(std::int64_t layer) const {
  return options_.width.describe(path_ + ".width", static_cast<std::size_t>(layer));
}
std::string SharedHeadPass::described_second(std::int64_t layer) const {
  return options_.second.describe(cat(path_, ".", options_.second_is), static_cast<std::size_t>(layer));
}

ModelSpec SharedHeadPass::plan(const ModelSpec& spec) const {
  options_.width.check_length(path_ + ".width", spec.layers.size());
  options_.second.check_length(cat(path_, ".", options_.second_is), spec.layers.size());
  return plan_each_layer(spec, path_, [&](std::int64_t layer, const HeadFields& heads) {
    const Widths widths = widths_of(heads, layer);
    check_query_rank(options_.query_rank, heads.heads * widths.key, spec, path_);
    return attention(heads, widths, pairs_of_any_frequency(widths.key / 2, heads));
  });
}

std::vector<LayerReport> SharedHeadPass::apply(Decoder& decoder, const PassInputs& inputs) const {
  return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
    decoder.replace_attention(static_cast<std::size_t>(layer), converted(decoder, layer, inputs, report));
  });
}

std::shared_ptr<const AttentionSpec> SharedHeadPass::attention(HeadFields heads, const Widths& widths,
                                                               const std::vector<std::int64_t>& pairs) const {
  const Json own = fields_of(heads, widths);
  Json fields = write_fields(heads);
  fields.update(own);
  fields["pairs"] = pairs;
  fields["query_rank"] = options_.query_rank;
  return attention_of_kind("mfa", fields);
}

at::Tensor SharedHeadPass::moment_of(const ModelSpec& spec, std::int64_t layer, const PassInputs& inputs) const {
  if (requirements().empty()) return equal_moment(spec.hidden);
  return biased_moment(inputs.statistics->at(kInputMoment, layer), inputs.statistics->at(kInputMean, layer));
}

std::unique_ptr<Attention> SharedHeadPass::converted(const Decoder& decoder, std::int64_t layer,
                                                     const PassInputs& inputs, LayerReport& report) const {
  Attention& before = *decoder.layers[static_cast<std::size_t>(layer)].attention;
  const BiasedWeights source = biased_weights(*as_grouped_query(before));
  const Widths widths = widths_of(source.heads, layer);
  const at::Tensor moment = moment_of(decoder.spec(), layer, inputs).to(source.key.device());
  Converted made = convert(source, moment, widths);
  made.maps["o_proj"].second = as_grouped_query(before)->weights().output.bias();
  add_queries(made.maps, made.query, made.energy, moment, options_.query_rank, source.heads.query_bias);
  report.error.key = relative(made.keys.lost, made.keys.all);
  report.error.value = relative(made.values.lost, made.values.all);
  // Logits and outputs have no common unit: the mean of their shares.
  report.error.joint = std::sqrt((report.error.key * report.error.key + report.error.value * report.error.value) / 2);
  return rebuild_attention(*attention(source.heads, widths, made.pairs), decoder.spec(), before, made.maps,
                           inputs.weights);
}

}  // namespace mla
