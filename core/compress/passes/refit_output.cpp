#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/latent_steps.h"
#include "core/compress/layer_walk.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

constexpr const char* kOutputWeight = "o_proj.weight";
constexpr const char* kOutputBias = "o_proj.bias";

/// Output projections fitted anew, in closed form: layer by layer, the smallest squared difference between what
/// attention adds to the residual stream here, on what the layers before, fitted already, let through, and what the
/// source's layer adds on its own inputs. Attention itself stays as it is, and so do all shapes:
///   W += (T - W F)^T F (F^T F + damping mean diag I)^-1
/// with a row for each token in F, the summed values of all heads (and a one, where the projection has a bias), and in
/// T, the source's output.
class RefitOutput final : public Pass {
 public:
  struct Options {
    double damping = 1e-3;
    std::int64_t skip_positions = 1;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("damping", self.damping, "share of the features' mean energy that is added to each of them");
      visit("skip_positions", self.skip_positions,
            "first tokens of each row left out: they see little, and the first one is like no other");
    }
    void validate(const std::string& path) const {
      if (!(damping > 0)) throw ConfigError(cat(path, ".damping = ", damping, ": must be more than 0"));
      if (skip_positions < 0)
        throw ConfigError(cat(path, ".skip_positions = ", skip_positions, ": must not be negative"));
    }
  };

  RefitOutput(Options options, const std::string& path) : options_(options), path_(path) {}

  bool reads_rows() const override { return true; }
  bool reads_source() const override { return true; }
  ModelSpec plan(const ModelSpec& spec) const override { return spec; }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const Decoder& source = *inputs.source;
    if (source.spec().layer_count() != decoder.spec().layer_count()) {
      throw ConfigError(cat(path_, ": the model has ", decoder.spec().layer_count(), " layers and its source ",
                            source.spec().layer_count(), "; layers are fitted one to one"));
    }
    LayerWalk theirs(source, *inputs.rows, {}), ours(decoder, *inputs.rows, {});
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport&) {
      std::vector<at::Tensor> wanted;
      theirs.advance(Tap::kAttentionOutput,
                     [&](std::size_t, const at::Tensor& output) { wanted.push_back(rows_of(output)); });
      fit(*decoder.layers[static_cast<std::size_t>(layer)].attention, ours, wanted);
      ours.advance();
    });
  }

 private:
  /// [tokens, width] float64, without the first positions.
  at::Tensor rows_of(const at::Tensor& shown) const {
    const std::int64_t skipped = std::min(options_.skip_positions, shown.size(1));
    return shown.narrow(1, skipped, shown.size(1) - skipped).flatten(0, 1).to(at::kDouble);
  }

  /// `wanted`: what the source's layer adds, batch by batch.
  void fit(Attention& attention, const LayerWalk& ours, const std::vector<at::Tensor>& wanted) const {
    at::Tensor weight, bias;
    attention.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
      if (name == kOutputWeight) weight = tensor;
      if (name == kOutputBias) bias = tensor;
    });
    expects(weight.defined(), "every kind of attention has an output projection");
    at::Tensor map = weight.detach().to(at::kDouble);
    if (bias.defined()) map = at::cat({map, bias.detach().to(at::kDouble).unsqueeze(1)}, 1);

    at::Tensor gram = at::zeros({map.size(1), map.size(1)}, map.options());
    at::Tensor missing = at::zeros_like(map);
    ours.observe(Tap::kAttentionContext, [&](std::size_t batch, const at::Tensor& context) {
      at::Tensor features = rows_of(context);
      if (bias.defined()) features = at::cat({features, at::ones({features.size(0), 1}, features.options())}, 1);
      gram.addmm_(features.t(), features);
      missing.addmm_((wanted[batch] - at::mm(features, map.t())).t(), features);
    });
    const double mean = gram.diagonal().mean().item<double>();
    if (!(mean > 0)) return;  // rows too short to fit anything on
    gram.diagonal().add_(options_.damping * mean);
    map += at::linalg_solve(gram, missing, /*left=*/false);
    const at::NoGradGuard off;
    attention.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
      // Fresh tensors: the old ones may be shared with the source.
      if (name == kOutputWeight) tensor = map.narrow(1, 0, weight.size(1)).to(tensor.scalar_type()).contiguous();
      if (name == kOutputBias) tensor = map.select(1, weight.size(1)).to(tensor.scalar_type()).contiguous();
    });
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, RefitOutput> kRefitOutput(
    "refit_output", "output projections fitted to the source's attention outputs, in closed form");

}  // namespace
}  // namespace mla
