#include "core/attention/linear.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/ops/thin_linear.h"

namespace mla {

at::Tensor matching(const at::Tensor& tensor, const at::Tensor& x) {
  return tensor.scalar_type() == x.scalar_type() ? tensor : tensor.to(x.scalar_type());
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  return linear_rows(x, matrix_for(x), bias_.defined() ? matching(bias_, x) : bias_);
}

at::Tensor Linear::matrix_for(const at::Tensor& x) const { return matching(weight_, x); }

at::Tensor Linear::rows_at(const at::Tensor& ids) const { return at::embedding(weight_, ids); }

std::int64_t Linear::parameters() const {
  return (weight_.defined() ? weight_.numel() : 0) + (bias_.defined() ? bias_.numel() : 0);
}

void Linear::visit(const std::string& name, const std::function<void(const std::string&, at::Tensor&)>& visit) {
  if (weight_.defined()) visit(name + ".weight", weight_);
  if (bias_.defined()) visit(name + ".bias", bias_);
}

Linear Linear::clone() const {
  const auto copy = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.detach().clone() : tensor; };
  return {copy(weight_), copy(bias_)};
}

std::vector<at::Tensor> project_together(const std::vector<const Linear*>& maps, const at::Tensor& x) {
  std::vector<at::Tensor> weights, outs;
  for (const Linear* map : maps) weights.push_back(map->matrix_for(x));
  const auto serves = [&](const at::Tensor& weight) { return thin_linear_serves(x, weight); };
  if (std::all_of(weights.begin(), weights.end(), serves)) {
    outs = thin_linears(x, weights);
    for (std::size_t i = 0; i < outs.size(); ++i) {
      if (maps[i]->bias().defined()) outs[i].add_(matching(maps[i]->bias(), x));
    }
  } else {
    for (const Linear* map : maps) outs.push_back((*map)(x));
  }
  return outs;
}

WeightVisitor each_parameter(const std::function<void(const std::string&, at::Tensor&)>& visit) {
  return {[visit](const std::string& name, Linear& map) { map.visit(name, visit); }, visit};
}

Linear LayerWeights::map(const std::string& name) {
  auto node = maps_.extract(name);
  return node.empty() ? Linear() : std::move(node.mapped());
}

at::Tensor LayerWeights::tensor(const std::string& name) {
  auto node = tensors_.extract(name);
  return node.empty() ? at::Tensor() : std::move(node.mapped());
}

}  // namespace mla
