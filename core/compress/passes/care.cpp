#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/compress/layers/shared_key.h"
#include "core/linalg/svd.h"
#include "core/low_rank/adjusted_ranks.h"
#include "core/low_rank/whitening.h"

namespace mla {
namespace {

/// How inputs are weighed.
enum class CareVariant {
  kProjected,  ///< projected on the leading directions of H^4 W^T ("transmla-care", the default of the public code)
  kWhitened,   ///< [W H^1/2]_r H^-1/2 ("care")
  kUnrooted,   ///< [W H]_r H^-1 ("no-sqrt-care")
};
std::vector<std::pair<std::string, CareVariant>> enum_names(CareVariant) {
  return {{"transmla_care", CareVariant::kProjected},
          {"care", CareVariant::kWhitened},
          {"no_sqrt_care", CareVariant::kUnrooted}};
}

enum class CareRanks { kUniform, kAdjusted };
std::vector<std::pair<std::string, CareRanks>> enum_names(CareRanks) {
  return {{"uniform", CareRanks::kUniform}, {"adjusted", CareRanks::kAdjusted}};
}

/// Exponent of the moment in `transmla_care` and where ranks are adjusted.
constexpr double kBasisPower = 4;
/// `care` damps ten times as much.
constexpr double kWhitenedDamping = 10;

std::vector<double> listed(const at::Tensor& values) {
  const at::Tensor held = values.to(at::kCPU, at::kDouble).contiguous();
  return {held.const_data_ptr<double>(), held.const_data_ptr<double>() + held.numel()};
}

/// CARE (arXiv 2603.17946): TransMLA's layers, with a latent that is close by what keys and values are on calibration
/// inputs, and ranks by layer. W takes z to keys and values; its rows for query heads of one group are alike, so that
/// they stand here once. The two whitened variants weigh keys as they are, not balanced, as published.
class Care final : public Pass {
 public:
  struct Options {
    SharedKeyOptions shared;
    CareVariant variant = CareVariant::kProjected;
    CareRanks ranks = CareRanks::kUniform;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      SharedKeyOptions::fields(self.shared, visit);
      visit(
          "variant", self.variant,
          "transmla_care (projection, balanced) | care (whitened by the root of the inputs' moment) | no_sqrt_care (by "
          "the moment itself)");
      visit("ranks", self.ranks,
            "uniform: the same in each layer | adjusted: keys and values of all layers share half of the budget each");
    }
    void validate(const std::string& path) const { shared.validate(path); }
  };

  Care(const Options& options, const std::string& path)
      : options_(options), path_(path), conversion_(options.shared, published(options), path) {}

  Requirements requirements() const override { return conversion_.requirements(); }
  bool reads_rows() const override { return conversion_.reads_rows(); }
  bool measures_shapes() const override { return adjusts() || conversion_.chooses_layout(); }

  ModelSpec plan(const ModelSpec& spec) const override {
    ModelSpec planned = conversion_.plan(spec);
    for (std::int64_t layer = 0; layer < planned.layer_count(); ++layer) {
      const LatentLayout* layout = latent_layout(planned.attention(layer));
      if (adjusts() && layout && layout->latent_width < 2)
        throw ConfigError(cat(path_, ".cached = ", *options_.shared.cached, ": leaves a latent of ",
                              layout->latent_width,
                              "; adjusted ranks need at least 2, one for keys and one for values"));
    }
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const auto fit = [&](const LatentProblem& problem, std::int64_t rank) {
      return options_.variant == CareVariant::kProjected ? projected(problem, rank) : whitened(problem, rank);
    };
    const auto share = [&](const std::vector<LatentProblem>& layers, std::int64_t mean) {
      return adjusted(layers, mean);
    };
    return conversion_.apply(decoder, inputs, fit, adjusts() ? ShareRanks(share) : ShareRanks());
  }

 private:
  bool adjusts() const { return options_.ranks == CareRanks::kAdjusted; }

  static LatentInputs published(const Options& options) {
    const bool whole = options.variant == CareVariant::kProjected && options.ranks == CareRanks::kUniform;
    return whole ? LatentInputs::kRotated : LatentInputs::kConverted;
  }

  LatentMaps projected(const LatentProblem& problem, std::int64_t rank) const {
    const at::Tensor weighed =
        DampedMoment(problem.moment, options_.shared.damping).power(kBasisPower) * problem.scale();
    const TruncatedSvd svd = truncated_svd(weighed, rank, {.method = "exact"});
    return {svd.left.t(), svd.left, listed(svd.values)};
  }

  LatentMaps whitened(const LatentProblem& problem, std::int64_t rank) const {
    const bool root = options_.variant == CareVariant::kWhitened;
    const Whitening weights =
        power_whitening(problem.moment, options_.shared.damping * (root ? kWhitenedDamping : 1), root ? 0.5 : 1.0);
    const at::Tensor scale = problem.scale();
    const TruncatedSvd svd = truncated_svd(weights.root * scale, rank, {.method = "exact"});
    return {at::mm((svd.left * svd.values).t(), weights.inverse), svd.right.t() / scale.unsqueeze(1),
            listed(svd.values)};
  }

  /// The squares of H^4 W^T's singular values, of one part of z.
  static std::vector<double> energies(const LatentProblem& problem, std::int64_t first, std::int64_t count,
                                      double damping) {
    if (count == 0) return {};
    const at::Tensor moment = problem.moment.narrow(0, first, count).narrow(1, first, count);
    // W's columns are orthogonal and as long as each other here: its singular values are powers of eigenvalues.
    const at::Tensor values = DampedMoment(moment, damping).values();
    return listed((values / values.max()).pow(2 * kBasisPower).flip(0));
  }

  /// Ranks of one part of all layers.
  static std::vector<std::int64_t> shared(const std::vector<std::vector<double>>& energies, std::int64_t budget,
                                          std::int64_t mean) {
    const auto layers = std::ssize(energies);
    const std::int64_t size = std::ssize(energies.front());
    RankRange range{std::max<std::int64_t>(1, mean / 4), 0};
    range.least = std::min(range.least, budget / layers);
    range.most = std::min(std::max(range.least, mean), size);
    if (range.most * layers < budget) range.most = size;
    const auto left = [&](std::size_t layer, std::int64_t rank) {
      double behind = 0, all = 0;
      for (std::int64_t i = 0; i < size; ++i) {
        const double energy = energies[layer][static_cast<std::size_t>(i)];
        all += energy;
        if (i >= rank) behind += energy;
      }
      return all > 0 ? behind / all : 0.0;
    };
    return adjusted_ranks(left, std::vector<RankRange>(energies.size(), range), budget);
  }

  std::vector<std::int64_t> adjusted(const std::vector<LatentProblem>& layers, std::int64_t mean) const {
    std::vector<std::vector<double>> keys, values;
    for (const LatentProblem& layer : layers) {
      keys.push_back(energies(layer, 0, layer.keys, options_.shared.damping));
      values.push_back(energies(layer, layer.keys, layer.rows.size(0) - layer.keys, options_.shared.damping));
    }
    const auto count = std::ssize(layers);
    const std::int64_t budget = mean * count, of_keys = layers.front().keys * count,
                       of_values = (layers.front().rows.size(0) - layers.front().keys) * count;
    // Half to each; what one has no room for goes to the other.
    const std::int64_t key_budget = std::clamp(budget / 2, std::max<std::int64_t>(0, budget - of_values), of_keys);
    std::vector<std::int64_t> ranks = shared(values, budget - key_budget, mean);
    if (key_budget == 0) return ranks;
    const std::vector<std::int64_t> for_keys = shared(keys, key_budget, mean);
    for (std::size_t i = 0; i < ranks.size(); ++i) ranks[i] += for_keys[i];
    return ranks;
  }

  Options options_;
  std::string path_;
  SharedKeyConversion conversion_;
};

const Registration<Pass, Care> kCare(
    "care", "TransMLA's layers with whitened latents and ranks by layer (CARE, arXiv 2603.17946)");

}  // namespace
}  // namespace mla
