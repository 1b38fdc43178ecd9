#include "core/compress/calibration/importance.h"

#include <ATen/ATen.h>

#include <array>

#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/compress/calibration/loss_gradients.h"

namespace mla {
namespace {

constexpr std::array kAttentionMaps = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"};
constexpr std::array kFeedForwardMaps = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};

std::string layer_map(std::size_t layer, const std::string& map) { return cat("model.layers.", layer, ".", map); }

/// The dim over which a channel's weights are summed up.
std::int64_t within_channel(const std::string& map) {
  return map.ends_with("o_proj") || map.ends_with("down_proj") ? 0 : 1;
}

/// Of one layer, which maps have channels that belong to structures here.
std::vector<std::string> scored_maps(const AttentionSpec& attention) {
  std::vector<std::string> maps(kFeedForwardMaps.begin(), kFeedForwardMaps.end());
  if (grouped_query_heads(attention)) maps.insert(maps.end(), kAttentionMaps.begin(), kAttentionMaps.end());
  return maps;
}

StructureScores structures(const TensorMap& channels, const AttentionSpec& attention) {
  StructureScores scores;
  const auto of = [&](const char* map) { return channels.at(map); };
  scores.feed_forward = of("mlp.gate_proj") + of("mlp.up_proj") + of("mlp.down_proj");
  const std::optional<HeadFields> heads = grouped_query_heads(attention);
  if (!heads) return scores;
  const auto by_head = [&](const char* map, std::int64_t count) { return of(map).view({count, -1}).sum(1); };
  scores.query_heads = by_head("self_attn.q_proj", heads->heads) + by_head("self_attn.o_proj", heads->heads);
  scores.kv_groups = scores.query_heads.view({heads->kv_heads, -1}).sum(1) +
                     by_head("self_attn.k_proj", heads->kv_heads) + by_head("self_attn.v_proj", heads->kv_heads);
  return scores;
}

/// Mean and spread of structures' scores over rows.
class RowScores {
 public:
  void add(const StructureScores& scores) {
    ++rows_;
    for (const auto part : kParts) {
      const at::Tensor& now = scores.*part;
      if (!now.defined()) continue;
      at::Tensor &sum = sums_.*part, &square = squares_.*part;
      sum = sum.defined() ? sum + now : now;
      square = square.defined() ? square + now.square() : now.square();
    }
  }

  StructureScores fluctuation() const {
    StructureScores found;
    for (const auto part : kParts) {
      if (!(sums_.*part).defined()) continue;
      const at::Tensor mean = sums_.*part / static_cast<double>(rows_);
      const at::Tensor variance = (squares_.*part / static_cast<double>(rows_) - mean.square()).clamp_min(0);
      found.*part = at::where(mean > 0, variance.sqrt() / mean, at::zeros_like(mean));
    }
    return found;
  }

 private:
  static constexpr std::array kParts = {&StructureScores::query_heads, &StructureScores::kv_groups,
                                        &StructureScores::feed_forward};
  StructureScores sums_, squares_;
  std::int64_t rows_ = 0;
};

/// What is gathered of the rows' gradients.
class ImportanceGathering {
 public:
  ImportanceGathering(const Decoder& decoder, TaylorOrder order) : spec_(decoder.spec()), order_(order) {
    const_cast<Decoder&>(decoder).visit_weights({[&](const std::string& name, Linear& map) {
                                                   map.visit(name,
                                                             [&](const std::string& parameter, at::Tensor& tensor) {
                                                               if (parameter == name + ".weight")
                                                                 weights_[name] = tensor.detach();
                                                             });
                                                 },
                                                 [](const std::string&, at::Tensor&) {}});
    rows_scores_.resize(spec_.layers.size());
  }

  void add(std::int64_t predicted, const TensorMap& gradients) {
    predicted_ += predicted;
    ++rows_;
    for (const auto& [name, gradient] : gradients) {
      add_to(gradients_[name], gradient);
      if (order_ != TaylorOrder::kFirst) add_to(squares_[name], (gradient / static_cast<double>(predicted)).square());
    }
    for (std::size_t layer = 0; layer < spec_.layers.size(); ++layer) {
      TensorMap channels;
      for (const std::string& map : scored_maps(*spec_.layers[layer].attention)) {
        const std::string name = layer_map(layer, map);
        channels[map] = sizes(weights_.at(name) * gradients.at(name) / static_cast<double>(predicted), map);
      }
      rows_scores_[layer].add(structures(channels, *spec_.layers[layer].attention));
    }
  }

  LayerImportance of(std::size_t layer) {
    const AttentionSpec& attention = *spec_.layers[layer].attention;
    LayerImportance importance;
    for (const std::string& map : scored_maps(attention)) {
      const at::Tensor counts = what_weights_count(layer_map(layer, map));
      importance.element[map] = sizes(counts, map);
      importance.vector[map] = counts.sum(within_channel(map)).abs().to(at::kCPU, at::kDouble);
    }
    importance.by_element = structures(importance.element, attention);
    importance.by_vector = structures(importance.vector, attention);
    importance.fluctuation = rows_scores_[layer].fluctuation();
    return importance;
  }

 private:
  static void add_to(at::Tensor& sum, const at::Tensor& more) {
    if (sum.defined()) {
      sum.add_(more);
    } else {
      sum = more.clone();
    }
  }

  static at::Tensor sizes(const at::Tensor& counts, const std::string& map) {
    return counts.abs().sum(within_channel(map)).to(at::kCPU, at::kDouble);
  }

  at::Tensor what_weights_count(const std::string& name) const {
    const at::Tensor weight = weights_.at(name).to(at::kDouble);
    const auto first = [&] { return weight * gradients_.at(name).to(at::kDouble) / static_cast<double>(predicted_); };
    const auto second = [&] {
      return weight.square() * squares_.at(name).to(at::kDouble) / static_cast<double>(rows_);
    };
    switch (order_) {
      case TaylorOrder::kFirst:
        return first();
      case TaylorOrder::kSecond:
        return second();
      default:
        return first() - second() / 2;
    }
  }

  const ModelSpec& spec_;
  TaylorOrder order_;
  TensorMap weights_, gradients_, squares_;
  std::int64_t predicted_ = 0, rows_ = 0;
  std::vector<RowScores> rows_scores_;
};

}  // namespace

at::Tensor one_score(ImportanceScore score, const at::Tensor& element, const at::Tensor& vector) {
  const auto over_mean = [](const at::Tensor& x) { return x / x.mean().clamp_min(1e-300); };
  switch (score) {
    case ImportanceScore::kElement:
      return element;
    case ImportanceScore::kVector:
      return vector;
    case ImportanceScore::kGeometric:
      return element.log() + vector.log();
    default:
      return over_mean(element) + over_mean(vector);
  }
}

std::vector<LayerImportance> layer_importance(const Decoder& decoder, const TokenRowList& rows, TaylorOrder order) {
  ImportanceGathering gathering(decoder, order);
  for_row_gradients(decoder, rows,
                    [&](std::int64_t predicted, const TensorMap& gradients) { gathering.add(predicted, gradients); });
  std::vector<LayerImportance> all;
  for (std::size_t layer = 0; layer < decoder.layers.size(); ++layer) all.push_back(gathering.of(layer));
  return all;
}

}  // namespace mla
