#include "core/compress/layers/shared_key.h"

#include <ATen/ATen.h>

#include <limits>
#include <optional>

#include "core/attention/grouped_query.h"
#include "core/base/registry.h"
#include "core/compress/calibration/layer_inputs.h"
#include "core/compress/layers/latent_assembly.h"
#include "core/compress/layers/latent_steps.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

HeadGeometry geometry_of(const HeadFields& heads) { return {1, heads.heads, heads.kv_heads, heads.head_dim}; }

std::unique_ptr<RotationStrategy> rotation_of(const HeadFolding& folding) {
  const Json options = {
      {"name", "rorope"}, {"collapse", folding.collapse}, {"fold", folding.fold}, {"damping", folding.damping}};
  return Registry<RotationStrategy>::instance().make(options, "rope");
}

}  // namespace

void SharedKeyOptions::validate(const std::string& path) const {
  if (cached && *cached < 1) throw ConfigError(cat(path, ".cached = ", *cached, ": must be at least 1"));
  if (collapse && *collapse < 1) throw ConfigError(cat(path, ".collapse = ", *collapse, ": must be at least 1"));
  if (fold && *fold < 1) throw ConfigError(cat(path, ".fold = ", *fold, ": must be at least 1"));
  if (fold && collapse && *fold % *collapse != 0)
    throw ConfigError(cat(path, ".fold = ", *fold, ": must be a multiple of collapse = ", *collapse));
  if (!(balance > 0)) throw ConfigError(cat(path, ".balance = ", balance, ": must be more than 0"));
  if (!(damping >= 0)) throw ConfigError(cat(path, ".damping = ", damping, ": must not be negative"));
}

at::Tensor LatentProblem::scale() const {
  at::Tensor all = at::ones({rows.size(0)}, rows.options());
  all.narrow(0, 0, keys).fill_(ratio);
  return all;
}

SharedKeyConversion::SharedKeyConversion(SharedKeyOptions options, LatentInputs published, std::string path)
    : options_(std::move(options)), inputs_(options_.inputs.value_or(published)), path_(std::move(path)) {}

Requirements SharedKeyConversion::requirements() const {
  if (inputs_ == LatentInputs::kFound) return {kKeySecondMoment, kInputMoment};
  return {kKeySecondMoment};
}

bool SharedKeyConversion::converts(const ModelSpec& spec, std::int64_t layer) const {
  const AttentionSpec& attention = spec.attention(layer);
  if (grouped_query_heads(attention)) return true;
  if (attention.rotated_pairs() == 0 && !attention.latent_width()) return false;
  throw ConfigError(cat(path_, ": layer ", layer, " is of kind ", attention.kind(),
                        "; expected grouped_query: convert before other passes"));
}

std::int64_t SharedKeyConversion::rank(const HeadFields& heads, const HeadFolding& folding) const {
  return *options_.cached - heads.head_dim / folding.collapse;
}

void SharedKeyConversion::check_layer(const ModelSpec& spec, std::int64_t layer) const {
  const HeadFields heads = *grouped_query_heads(spec.attention(layer));
  const std::string where = cat(path_, ": layer ", layer);
  if (const std::string reason = only_grouped_query(heads); !reason.empty())
    throw ConfigError(cat(where, ": ", spec.family, ": ", reason));
  if (heads.qk_norm)
    throw ConfigError(cat(where, ": ", spec.family,
                          " normalises its keys (QK-norm), each dim with a weight of its own, ",
                          "so that heads cannot be mixed; list fold_qk_norm before"));
  expect_convertible(spec, layer, "self_attn.", where);
  const std::int64_t pairs = heads.head_dim / 2, all = 2 * heads.kv_heads * heads.head_dim;
  for (const auto& [name, value] : {std::pair{"collapse", options_.collapse}, {"fold", options_.fold}}) {
    if (value && pairs % *value != 0)
      throw ConfigError(cat(path_, ".", name, " = ", *value, ": must divide the ", pairs, " pairs of a head"));
  }
  if (!options_.cached)
    throw ConfigError(
        cat(path_, ".cached: state how many values each layer caches per token; layer ", layer, " caches ", all));
  if (*options_.cached > all)
    throw ConfigError(cat(path_, ".cached = ", *options_.cached, ": must be at most the ", all, " values that layer ",
                          layer, " caches"));
  if (!options_.collapse) return;
  const std::int64_t width = heads.head_dim / *options_.collapse;
  if (*options_.cached <= width)
    throw ConfigError(cat(path_, ".cached = ", *options_.cached, ": must be more than the ", width,
                          " values of the rotated key (collapse = ", *options_.collapse, ")"));
}

ModelSpec SharedKeyConversion::plan(const ModelSpec& spec) const {
  const HeadFolding folding = layouts(spec).front();
  ModelSpec planned = spec;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    if (!converts(spec, layer)) continue;
    const HeadFields heads = *grouped_query_heads(spec.attention(layer));
    const std::int64_t pairs = heads.head_dim / 2 / folding.collapse;
    KeptPairs kept(1);
    for (std::int64_t pair = 0; pair < pairs; ++pair)
      kept.front().push_back(pair / (folding.fold / folding.collapse) * folding.fold +
                             pair % (folding.fold / folding.collapse) * folding.collapse);
    LatentLayout layout = partial_rope_layout(heads, std::move(kept), heads.head_dim, false);
    layout.latent_width = rank(heads, folding);
    layout.key = layout.value = {0, layout.latent_width};
    layout.key_up = layout.value_up = true;
    LayerSpec& own = planned.layers[static_cast<std::size_t>(layer)];
    std::erase_if(own.storage, [](const auto& entry) {
      return entry.first.starts_with("self_attn.") && entry.first != "self_attn.o_proj";
    });
    own.attention = std::make_shared<LatentSpec>(LatentSpec::Options{std::move(layout), heads});
  }
  return planned;
}

std::vector<LayerReport> SharedKeyConversion::apply(Decoder& decoder, const PassInputs& inputs, const FitLatent& fit,
                                                    const ShareRanks& share) const {
  const HeadFolding folding = chooses_layout() ? choose(decoder, inputs, fit) : layouts(decoder.spec()).front();
  return convert(decoder, inputs, fit, share, {folding, inputs_}, nullptr);
}

/// The model with one rotated key in each layer, and everything else as it was.
void SharedKeyConversion::rotate(Decoder& decoder, const Statistics& statistics, const HeadFolding& folding,
                                 Attentions* replaced) const {
  const c10::InferenceMode off(false);
  const auto rotation = rotation_of(folding);
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    if (!converts(decoder.spec(), layer)) continue;
    const GroupedQueryAttention& source = *as_grouped_query(*decoder.layers[i].attention);
    const LayerMeasures measures{{kKeySecondMoment.name(), statistics.at(kKeySecondMoment, layer)}};
    auto rotated =
        assemble_partial_rope(source, rotation->rotation(layer, geometry_of(source.heads()), measures), false);
    if (replaced) (*replaced)[i] = std::move(decoder.layers[i].attention);
    decoder.replace_attention(i, std::move(rotated));
  }
}

LatentProblem SharedKeyConversion::problem(const LatentAttention& rotated, const at::Tensor& key_moment,
                                           const at::Tensor& input_moment, const HeadFolding& folding) const {
  const LayerProblem weights = factor_problem(rotated, at::kDouble);
  const at::Device device = weights.key.device();
  const at::Tensor removed = removed_components(key_moment, geometry_of(rotated.heads()), folding).to(device);
  const at::Tensor keys = at::mm(removed, weights.key), moment = input_moment.to(device);
  const auto mean_norm = [&](const at::Tensor& rows) {
    if (rows.size(0) == 0) return 0.0;
    return (at::mm(rows, moment) * rows).sum(1).clamp_min(0).sqrt().mean().item<double>();
  };
  LatentProblem problem;
  problem.keys = keys.size(0);
  problem.to_heads = removed.t();
  const double of_keys = mean_norm(keys), of_values = mean_norm(weights.value);
  if (!(of_keys < std::numeric_limits<double>::infinity() && of_values < std::numeric_limits<double>::infinity()))
    throw DataError(cat(path_, ": the inputs of attention on calibration data are not finite"));
  if (of_keys > 0 && of_values > 0) problem.ratio = of_keys / (of_values * options_.balance);
  problem.rows = at::cat({keys / problem.ratio, weights.value});
  problem.moment = at::mm(at::mm(problem.rows, moment), problem.rows.t());
  return problem;
}

std::vector<LayerReport> SharedKeyConversion::convert(Decoder& decoder, const PassInputs& inputs, const FitLatent& fit,
                                                      const ShareRanks& share, const Way& way,
                                                      Attentions* replaced) const {
  const ModelSpec source = decoder.spec();
  rotate(decoder, *inputs.statistics, way.folding, replaced);
  const bool measures = way.inputs != LatentInputs::kFound;
  Statistics of_rotated;
  if (measures && (way.inputs == LatentInputs::kRotated || share))
    of_rotated = calibrate(decoder, *inputs.rows, {kInputMoment}, {}, {});
  PassInputs given = inputs;
  if (measures) given.statistics = &of_rotated;
  const auto problem_of = [&](std::int64_t layer, const PassInputs& now) {
    return problem(*as_latent(*decoder.layers[static_cast<std::size_t>(layer)].attention),
                   inputs.statistics->at(kKeySecondMoment, layer), now.statistics->at(kInputMoment, layer),
                   way.folding);
  };
  std::vector<std::int64_t> ranks(decoder.layers.size(), 0), converted;
  for (std::int64_t layer = 0; layer < source.layer_count(); ++layer) {
    if (converts(source, layer)) converted.push_back(layer);
  }
  std::vector<LatentProblem> all;
  if (share) {
    for (const std::int64_t layer : converted) all.push_back(problem_of(layer, given));
  }
  const std::int64_t mean = rank(*source.attention(converted.front()).heads(), way.folding);
  const std::vector<std::int64_t> shared = share ? share(all, mean) : std::vector<std::int64_t>(converted.size(), mean);
  for (std::size_t i = 0; i < converted.size(); ++i) ranks[static_cast<std::size_t>(converted[i])] = shared[i];
  const Requirements measured{kInputMoment};
  LayerInputs walk(decoder, given, measured,
                   way.inputs == LatentInputs::kConverted ? MeasuredInputs::kConverted : MeasuredInputs::kFound);
  return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
    const auto index = static_cast<std::size_t>(layer);
    if (ranks[index] == 0) return;
    const LatentProblem own = problem_of(layer, walk.of(layer));
    decoder.replace_attention(index, assemble_latent(*as_latent(*decoder.layers[index].attention), own,
                                                     fit(own, ranks[index]), inputs.weights, report));
  });
}

std::unique_ptr<LatentAttention> assemble_latent(const LatentAttention& rotated, const LatentProblem& problem,
                                                 const LatentMaps& maps, std::optional<at::ScalarType> weights,
                                                 LayerReport& report) {
  const std::int64_t rank = maps.down.size(0), values = problem.rows.size(0) - problem.keys;
  const at::Tensor scale = problem.scale().unsqueeze(1), up = maps.up * scale;
  const at::Tensor wanted = problem.rows * scale, missing = wanted - at::mm(up, at::mm(maps.down, problem.rows));
  const auto keys = [&](const at::Tensor& rows) { return rows.narrow(0, 0, problem.keys); };
  const auto of_values = [&](const at::Tensor& rows) { return rows.narrow(0, problem.keys, values); };
  Factorization factors;
  factors.down = at::mm(maps.down, problem.rows);
  factors.up_key = at::mm(problem.to_heads, keys(up));
  factors.up_value = of_values(up);
  factors.key = factors.value = {0, rank};
  report.kept = rotated.layout().kept;
  report.singular_values = maps.values;
  report.error =
      relative_error(keys(wanted), squared_norm(keys(missing)), of_values(wanted), squared_norm(of_values(missing)));
  return assemble_low_rank(rotated, factors, weights.value_or(rotated.weights().down.scalar_type()));
}

}  // namespace mla
