#include "core/attention/linear.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/ops/rounded_rows.h"
#include "core/ops/thin_linear.h"

namespace mla {

at::Tensor matching(const at::Tensor& tensor, const at::Tensor& x) {
  return tensor.scalar_type() == x.scalar_type() ? tensor : tensor.to(x.scalar_type());
}

Linear::Linear(std::shared_ptr<const WeightStorage> storage, MatrixShape shape, std::vector<at::Tensor> parts,
               at::Tensor bias)
    : bias_(std::move(bias)), storage_(std::move(storage)), shape_(shape), parts_(std::move(parts)) {
  const std::vector<StoredPart> stated = storage_->parts(shape_);
  expects(stated.size() == parts_.size(), "a stored matrix has the parts that its storage states");
  for (std::size_t i = 0; i < stated.size(); ++i) {
    expects(parts_[i].sizes() == at::IntArrayRef(stated[i].shape), "the parts of a stored matrix have stated shapes");
    expects(!stated[i].type || parts_[i].scalar_type() == *stated[i].type, "and stated types");
  }
}

bool Linear::multiplies_codes(const at::Tensor& x) const {
  return storage_ && rounds_for_panels(x) && storage_->panels(parts_, shape_);
}

bool Linear::decodes_by_rows(const at::Tensor& x) const {
  return storage_ && x.scalar_type() == at::kFloat && thin_rows_serve(x) && device().is_cpu() &&
         storage_->row_source(parts_, shape_);
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  const at::Tensor bias = bias_.defined() ? matching(bias_, x) : bias_;
  if (multiplies_codes(x)) {
    const at::Tensor y = has_panel_kernels(x, device()) ? panel_products(x, {panels()}).front()
                                                        : linear_rows(rounded_values(x), matrix_for(x));
    return bias.defined() ? y + bias : y;
  }
  if (decodes_by_rows(x)) {
    at::Tensor y = thin_linear(x, *storage_->row_source(parts_, shape_));
    return bias.defined() ? y.add_(bias) : y;
  }
  if (!is_factored()) return linear_rows(x, matrix_for(x), bias);
  const at::Tensor y = storage_->multiply(parts_, x);
  return bias.defined() ? y + bias : y;
}

at::Tensor Linear::rows_at(const at::Tensor& ids) const {
  if (!storage_) return at::embedding(weight_, ids);
  std::vector<std::int64_t> sizes = ids.sizes().vec();
  sizes.push_back(shape_.columns);
  return storage_->rows(parts_, shape_, ids.flatten()).view(sizes);
}

at::ScalarType Linear::scalar_type() const {
  if (!storage_) return weight_.scalar_type();
  return is_factored() ? parts_.front().scalar_type() : at::kFloat;
}

std::int64_t Linear::parameters() const {
  std::int64_t count = bias_.defined() ? bias_.numel() : 0;
  if (weight_.defined()) count += weight_.numel();
  return storage_ ? count + parameters_of(*storage_, shape_) : count;
}

std::int64_t Linear::bytes() const {
  std::int64_t bytes = 0;
  const_cast<Linear*>(this)->visit_stored(
      "", [&](const std::string&, at::Tensor& tensor) { bytes += static_cast<std::int64_t>(tensor.nbytes()); });
  return bytes;
}

void Linear::visit(const std::string& name, const std::function<void(const std::string&, at::Tensor&)>& visit) {
  if (!storage_) return visit_stored(name, visit);
  const std::vector<StoredPart> stated = storage_->parts(shape_);
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (!stated[i].type) visit(name + "." + stated[i].name, parts_[i]);
  }
  if (bias_.defined()) visit(name + ".bias", bias_);
}

void Linear::visit_stored(const std::string& name, const std::function<void(const std::string&, at::Tensor&)>& visit) {
  if (weight_.defined()) visit(name + ".weight", weight_);
  if (storage_) {
    const std::vector<StoredPart> stated = storage_->parts(shape_);
    for (std::size_t i = 0; i < parts_.size(); ++i) visit(name + "." + stated[i].name, parts_[i]);
  }
  if (bias_.defined()) visit(name + ".bias", bias_);
}

Linear Linear::clone() const {
  const auto copy = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.detach().clone() : tensor; };
  if (!storage_) return {copy(weight_), copy(bias_)};
  std::vector<at::Tensor> parts;
  for (const at::Tensor& part : parts_) parts.push_back(copy(part));
  return {storage_, shape_, std::move(parts), copy(bias_)};
}

std::vector<at::Tensor> project_together(const std::vector<const Linear*>& maps, const at::Tensor& x) {
  const auto all = [&](const auto& what) { return std::all_of(maps.begin(), maps.end(), what); };
  std::vector<at::Tensor> outs;
  if (all([&](const Linear* map) { return map->multiplies_codes(x) && has_panel_kernels(x, map->device()); })) {
    std::vector<PanelMatrix> matrices;
    for (const Linear* map : maps) matrices.push_back(map->panels());
    outs = panel_products(x, matrices);
  } else if (all([&](const Linear* map) {
               return map->weight_.defined() && thin_linear_serves(x, matching(map->weight_, x));
             })) {
    std::vector<at::Tensor> weights;
    for (const Linear* map : maps) weights.push_back(matching(map->weight_, x));
    outs = thin_linears(x, weights);
  }
  const bool together = !outs.empty();
  for (std::size_t i = 0; i < maps.size(); ++i) {
    if (!together) {
      outs.push_back((*maps[i])(x));
    } else if (maps[i]->bias().defined()) {
      outs[i].add_(matching(maps[i]->bias(), x));
    }
  }
  return outs;
}

WeightVisitor each_parameter(const std::function<void(const std::string&, at::Tensor&)>& visit) {
  return {[visit](const std::string& name, Linear& map) { map.visit(name, visit); }, visit};
}

WeightVisitor each_stored(const std::function<void(const std::string&, at::Tensor&)>& visit) {
  return {[visit](const std::string& name, Linear& map) { map.visit_stored(name, visit); }, visit};
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
