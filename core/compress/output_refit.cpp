#include "core/compress/output_refit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr const char* kOutputWeight = "o_proj.weight";
constexpr const char* kOutputBias = "o_proj.bias";

/// [tokens, width] float64, without the first positions.
at::Tensor rows_behind(const at::Tensor& shown, std::int64_t positions) {
  const std::int64_t skipped = std::min(positions, shown.size(1));
  return shown.narrow(1, skipped, shown.size(1) - skipped).flatten(0, 1).to(at::kDouble);
}

/// `wanted`: what the source's layer adds, batch by batch.
void refit_layer(Attention& attention, const LayerWalk& ours, const std::vector<at::Tensor>& wanted,
                 const OutputRefitOptions& options) {
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
    at::Tensor features = rows_behind(context, options.skip_positions);
    if (bias.defined()) features = at::cat({features, at::ones({features.size(0), 1}, features.options())}, 1);
    gram.addmm_(features.t(), features);
    missing.addmm_((wanted[batch] - at::mm(features, map.t())).t(), features);
  });
  const double mean = gram.diagonal().mean().item<double>();
  if (!(mean > 0)) return;  // rows too short to fit anything on
  gram.diagonal().add_(options.damping * mean);
  map += at::linalg_solve(gram, missing, /*left=*/false);
  const at::NoGradGuard off;
  attention.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    // Fresh tensors: the old ones may be shared with the source.
    if (name == kOutputWeight) tensor = map.narrow(1, 0, weight.size(1)).to(tensor.scalar_type()).contiguous();
    if (name == kOutputBias) tensor = map.select(1, weight.size(1)).to(tensor.scalar_type()).contiguous();
  });
}

}  // namespace

void OutputRefit::next() {
  std::vector<at::Tensor> wanted;
  theirs_.advance(Tap::kAttentionOutput, [&](std::size_t, const at::Tensor& output) {
    wanted.push_back(rows_behind(output, options_.skip_positions));
  });
  refit_layer(*decoder_.layers[static_cast<std::size_t>(ours_.layer())].attention, ours_, wanted, options_);
  ours_.advance();
}

}  // namespace mla
