#include <ATen/ATen.h>

#include <cmath>

#include "core/base/registry.h"
#include "core/compress/layers/head_weights.h"
#include "core/linalg/svd.h"
#include "core/low_rank/condition_numbers.h"
#include "core/low_rank/rank_factor.h"
#include "experiments/conformance/related_cases.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

constexpr double kKappaTolerance = 1e-6;  // relative
constexpr double kCumulativeTolerance = 1e-8, kTruncationTolerance = 1e-9, kLossTolerance = 1e-6;

/// The matrices of all layers.
struct LayerMatrices {
  std::vector<at::Tensor> key, value;
};

LayerMatrices matrices_of(const RelatedCase& one) {
  LayerMatrices all;
  const auto key = one.part("wk"), value = one.part("wv");
  if (key && value) {
    all.key = key->to(at::kDouble).unbind(0);
    all.value = value->to(at::kDouble).unbind(0);
    return all;
  }
  const Decoder decoder = one.decoder();
  for (const DecoderLayer& layer : decoder.layers) {
    const GroupedQueryAttention* attention = as_grouped_query(*layer.attention);
    if (!attention) throw DataError(cat(one.where(), ": the model is converted already"));
    const HeadWeights weights = head_weights(*attention);
    all.key.push_back(weights.key);
    all.value.push_back(weights.value);
  }
  return all;
}

std::vector<at::Tensor> singular_values(const std::vector<at::Tensor>& matrices) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& matrix : matrices) {
    const SvdOptions exact{.method = "exact"};
    all.push_back(truncated_svd(matrix, std::min(matrix.size(0), matrix.size(1)), exact).values);
  }
  return all;
}

double truncation_error(const at::Tensor& values, std::int64_t width) {
  const at::Tensor squares = values.square();
  return relative(squares.narrow(0, width, squares.size(0) - width).sum().item<double>(), squares.sum().item<double>());
}

/// LoRC: condition numbers, widths and what they lose, and losses of models of one rank.
class LorcCases final : public RelatedSystem {
 public:
  explicit LorcCases(Options) {}

  void run(RelatedCase& one) const override {
    if (expected::has(one.json(), "allocations")) compare_allocations(one);
    if (expected::has(one.json(), "rank")) compare_losses(one);
  }

 private:
  static void compare_allocations(RelatedCase& one) {
    const LayerMatrices matrices = matrices_of(one);
    const std::vector<at::Tensor> key = singular_values(matrices.key), value = singular_values(matrices.value);
    std::vector<double> logs, digits;
    const auto compare_kappa = [&](const std::string& what, const std::vector<at::Tensor>& values) {
      std::vector<double> found;
      for (const at::Tensor& one_layer : values) found.push_back(std::exp(log_condition_of(one_layer)));
      const std::vector<double> wanted = expected::numbers(one.json(), what, one.where());
      for (std::size_t i = 0; i < std::min(found.size(), wanted.size()); ++i)
        one.hold(cat(what, "[", i, "]"), found[i], wanted[i], kKappaTolerance * wanted[i]);
      one.hold(what + " layers", static_cast<double>(found.size()), static_cast<double>(wanted.size()), 0);
    };
    compare_kappa("kappa_k", key);
    compare_kappa("kappa_v", value);
    for (std::size_t i = 0; i < key.size(); ++i) logs.push_back(log_condition_of(key[i]) + log_condition_of(value[i]));
    const std::vector<double> sums = cumulative(logs);
    for (const double sum : sums) digits.push_back(sum / std::log(10.0));
    one.hold("cumulative_ln", sums, expected::numbers(one.json(), "cumulative_ln", one.where()), kCumulativeTolerance);
    if (expected::has(one.json(), "cumulative_log10"))
      one.hold("cumulative_log10", digits, expected::numbers(one.json(), "cumulative_log10", one.where()),
               kCumulativeTolerance);
    for (const auto& [part, found] : {std::pair{"sigma_k", key}, {"sigma_v", value}}) {
      if (const auto wanted = one.part(part))
        one.hold(part, at::stack(found), *wanted, kTruncationTolerance * wanted->abs().max().item<double>());
    }
    for (const Json& allocation : one.json()["allocations"]) compare_widths(one, allocation, sums, key, value);
  }

  static void compare_widths(RelatedCase& one, const Json& wanted, const std::vector<double>& sums,
                             const std::vector<at::Tensor>& key, const std::vector<at::Tensor>& value) {
    const double least = expected::number(wanted, "d_min", one.where()),
                 most = expected::number(wanted, "d_max", one.where());
    const std::string name = cat("d ", least, " to ", most, " ");
    const std::vector<double> widths = progressive_widths(sums, least, most);
    std::vector<double> rounded, eights, key_errors, value_errors, spectral;
    double kept = 0;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      rounded.push_back(std::floor(widths[i] + 0.5));
      eights.push_back(8 * std::floor(widths[i] / 8 + 0.5));
      const auto width = static_cast<std::int64_t>(rounded.back());
      key_errors.push_back(truncation_error(key[i], width));
      value_errors.push_back(truncation_error(value[i], width));
      spectral.push_back(width < key[i].size(0) ? key[i][width].item<double>() : 0);
      kept += rounded.back() / static_cast<double>(key[i].size(0)) / static_cast<double>(widths.size());
    }
    const auto hold = [&](const char* what, const std::vector<double>& found, double limit) {
      if (expected::has(wanted, what))
        one.hold(name + what, found, expected::numbers(wanted, what, one.where()), limit);
    };
    hold("width", widths, kCumulativeTolerance * most);
    hold("width_rounded_half_up", rounded, 0);
    hold("width_rounded_to_multiple_of_8", eights, 0);
    hold("k_trunc_rel_err", key_errors, kTruncationTolerance);
    hold("v_trunc_rel_err", value_errors, kTruncationTolerance);
    hold("k_spectral_err", spectral, kTruncationTolerance * 10);
    if (expected::has(wanted, "kept_fraction"))
      one.hold(name + "kept_fraction", kept, expected::number(wanted, "kept_fraction", one.where()), 1e-12);
  }

  static void compare_losses(RelatedCase& one) {
    const Decoder decoder = one.decoder();
    const Json& json = one.json();
    const std::vector<std::int64_t> ids = expected::ids(json, "ids", decoder.spec().vocabulary - 1, one.where());
    one.hold_nll("base", decoder, ids, {{"mean_nll", json.at("base_mean_nll")}}, kLossTolerance);
    for (const auto& [what, parts] : {std::pair{"kv", "both"}, {"k_only", "keys"}, {"v_only", "values"}}) {
      if (!expected::has(json, what)) continue;
      Decoder converted = decoder.clone();
      apply_pass(converted,
                 {{"name", "lorc"}, {"width", json["rank"]}, {"parts", parts}, {"allocate", {{"name", "uniform"}}}});
      one.hold_nll(what, converted, ids, json[what], kLossTolerance);
    }
  }
};

const Registration<RelatedSystem, LorcCases> kLorcCases("lorc", "LoRC (arXiv 2410.03111)");

}  // namespace
}  // namespace mla
