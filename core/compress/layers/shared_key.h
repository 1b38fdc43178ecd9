// Layers with one rotated key for all heads and a latent for everything else: what TransMLA and CARE have in common.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/attention/latent.h"
#include "core/compress/pass.h"
#include "core/partial_rope/head_components.h"

namespace mla {

/// On what a latent's inputs are measured.
enum class LatentInputs {
  kFound,      ///< the model as the pass finds it
  kRotated,    ///< the model with one rotated key everywhere and nothing else changed (TransMLA)
  kConverted,  ///< the same, with the latents of the layers before (CARE)
};
inline std::vector<std::pair<std::string, LatentInputs>> enum_names(LatentInputs) {
  return {
      {"found", LatentInputs::kFound}, {"rotated", LatentInputs::kRotated}, {"converted", LatentInputs::kConverted}};
}

/// Part of a pass's options: call fields() from its own.
struct SharedKeyOptions {
  std::optional<std::int64_t> cached, collapse, fold;
  double balance = 1;
  double damping = 0.01;
  std::optional<LatentInputs> inputs;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("cached", self.cached,
          "values cached per token and layer, the rotated key's and the latent's together; mean over layers");
    visit("collapse", self.collapse,
          "the rotated key is head_dim / collapse wide; null: what predicts held-out calibration text best");
    visit("fold", self.fold,
          "neighbouring frequencies that are treated as one: a multiple of collapse; null: likewise chosen");
    visit("balance", self.balance,
          "mean norm of values over that of keys in the decomposition; more: values count more");
    visit("damping", self.damping, "share of the mean energy that is added to each direction");
    visit("inputs", self.inputs,
          "what latents are measured on: found (the model as the pass finds it) | rotated (with one rotated key) | "
          "converted (layers before converted); null: as published");
  }
  void validate(const std::string& path) const;
};

/// What the latent of one layer stands for: z = [position-free components of all keys / ratio; values], all linear in
/// the layer's input x. Float64.
struct LatentProblem {
  at::Tensor rows;        ///< [keys + values, hidden], z = rows x
  at::Tensor moment;      ///< E[z z^T] on calibration inputs
  std::int64_t keys = 0;  ///< of its rows the first ones
  double ratio = 1;       ///< mean norm of key components over that of values, over `balance`
  at::Tensor to_heads{};  ///< [kv_heads * head_dim, keys], from key components to keys of heads
  /// [keys + values]: what z is multiplied with to become keys and values, ratio or 1.
  at::Tensor scale() const;
};

/// Maps with z ~ up down z.
struct LatentMaps {
  at::Tensor down;               ///< [rank, keys + values]
  at::Tensor up;                 ///< [keys + values, rank]
  std::vector<double> values{};  ///< singular values, or roots of eigenvalues, of what was kept
};

/// One layer's maps of a rank.
using FitLatent = std::function<LatentMaps(const LatentProblem& problem, std::int64_t rank)>;
/// Ranks of the layers that are converted, from their problems; their sum is ranks * `mean`.
using ShareRanks =
    std::function<std::vector<std::int64_t>(const std::vector<LatentProblem>& layers, std::int64_t mean)>;

/// The whole conversion, but for the way in which latents are fitted.
class SharedKeyConversion {
 public:
  /// `published`: what is measured on where the options do not say.
  SharedKeyConversion(SharedKeyOptions options, LatentInputs published, std::string path);

  Requirements requirements() const;
  /// The source model's layers are left as they are where they have no keys. Throws ConfigError for a budget that fits
  /// no layout, and for models whose keys cannot be mixed.
  ModelSpec plan(const ModelSpec& spec) const;
  /// Whether calibration rows run through the model while it is converted.
  bool reads_rows() const { return inputs_ != LatentInputs::kFound || chooses_layout(); }
  /// Whether the layout is chosen on calibration text, so that plan() knows the cached values alone.
  bool chooses_layout() const { return !options_.collapse || !options_.fold; }

  /// `share`: empty: all layers get the same rank.
  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs, const FitLatent& fit,
                                 const ShareRanks& share) const;

 private:
  using Attentions = std::vector<std::unique_ptr<Attention>>;
  /// How one conversion goes.
  struct Way {
    HeadFolding folding;
    LatentInputs inputs = LatentInputs::kFound;
  };
  bool converts(const ModelSpec& spec, std::int64_t layer) const;
  void check_layer(const ModelSpec& spec, std::int64_t layer) const;
  std::vector<HeadFolding> layouts(const ModelSpec& spec) const;
  HeadFolding choose(Decoder& decoder, const PassInputs& inputs, const FitLatent& fit) const;
  std::vector<LayerReport> convert(Decoder& decoder, const PassInputs& inputs, const FitLatent& fit,
                                   const ShareRanks& share, const Way& way, Attentions* replaced) const;
  void rotate(Decoder& decoder, const Statistics& statistics, const HeadFolding& folding, Attentions* replaced) const;
  std::int64_t rank(const HeadFields& heads, const HeadFolding& folding) const;
  LatentProblem problem(const LatentAttention& rotated, const at::Tensor& key_moment, const at::Tensor& input_moment,
                        const HeadFolding& folding) const;

  SharedKeyOptions options_;
  LatentInputs inputs_;
  std::string path_;
};

/// The layer with its latent in place of keys and values; `report` tells what the weights lose.
std::unique_ptr<LatentAttention> assemble_latent(const LatentAttention& rotated, const LatentProblem& problem,
                                                 const LatentMaps& maps, std::optional<at::ScalarType> weights,
                                                 LayerReport& report);

}  // namespace mla
