#include "core/compress/refit/output_refit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr const char* kOutput = "o_proj";
constexpr const char* kOutputWeight = "o_proj.weight";
constexpr const char* kOutputBias = "o_proj.bias";

/// [tokens, width] float64, without the first positions.
at::Tensor rows_behind(const at::Tensor& shown, std::int64_t positions) {
  const std::int64_t skipped = std::min(positions, shown.size(1));
  return shown.narrow(1, skipped, shown.size(1) - skipped).flatten(0, 1).to(at::kDouble);
}

/// `contexts`: what the projection reads, `wanted`: what the source's layer adds, batch by batch.
void refit_layer(Attention& attention, const std::vector<at::Tensor>& contexts, const std::vector<at::Tensor>& wanted,
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
  for (std::size_t batch = 0; batch < contexts.size(); ++batch) {
    at::Tensor features = rows_behind(contexts[batch], options.skip_positions);
    if (bias.defined()) features = at::cat({features, at::ones({features.size(0), 1}, features.options())}, 1);
    gram.addmm_(features.t(), features);
    missing.addmm_((wanted[batch] - at::mm(features, map.t())).t(), features);
  }
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

/// What the projection makes of them now.
std::vector<at::Tensor> projected(Attention& attention, const std::vector<at::Tensor>& contexts, Products products) {
  Linear output;
  attention.visit_weights({[&](const std::string& name, Linear& map) {
                             if (name == kOutput) output = map;
                           },
                           [](const std::string&, at::Tensor&) {}});
  const at::NoGradGuard off;
  const ProductsScope scope(products);
  std::vector<at::Tensor> all;
  for (const at::Tensor& context : contexts) all.push_back(output(context));
  return all;
}

}  // namespace

void OutputRefit::next() {
  std::vector<at::Tensor> wanted;
  theirs_.advance(Tap::kAttentionOutput, [&](std::size_t, const at::Tensor& output) {
    wanted.push_back(rows_behind(output, options_.skip_positions));
  });
  // Attention does not change, so that it runs once.
  Attention& attention = *decoder_.layers[static_cast<std::size_t>(ours_.layer())].attention;
  std::vector<at::Tensor> contexts(ours_.states().size());
  ours_.observe(Tap::kAttentionContext,
                [&](std::size_t batch, const at::Tensor& context) { contexts[batch] = context; });
  refit_layer(attention, contexts, wanted, options_);
  if (ours_.hands_on()) {
    ours_.advance();
  } else {
    ours_.advance_behind(projected(attention, contexts, decoder_.products));
  }
}

}  // namespace mla
