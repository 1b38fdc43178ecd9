#include "core/train/trainable.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/base/error.h"
#include "core/text/regular_expression.h"

namespace mla {
namespace {

RegularExpression selection_pattern(const std::string& selection, const std::string& path) {
  if (selection == "all") return {"", path};
  if (selection == "attention") return {"self_attn\\.", path};
  if (selection == "attention_and_norms") return {"attn|norm", path};
  return {selection, path};
}

void check_dtype(const std::string& name, const at::Tensor& parameter, at::ScalarType compute,
                 const std::string& path) {
  const at::ScalarType held = parameter.scalar_type();
  if (held == compute && (held == at::kFloat || held == at::kDouble)) return;
  throw ConfigError(cat(path, ": ", name, " is held in ", c10::toString(held), " and computed in ",
                        c10::toString(compute), "; training needs both in float32 or float64"));
}

}  // namespace

void check_trainable(const ModelSpec& spec, const std::string& selection, const std::string& path) {
  const RegularExpression pattern = selection_pattern(selection, path);
  for (const ModelParameter& parameter : model_parameters(spec)) {
    if (!parameter.storage || parameter.storage->is_factored() || !pattern.matches(parameter.name)) continue;
    throw ConfigError(cat(path, ": '", selection, "' matches ", parameter.name, ", which is held as ",
                          parameter.storage->description(),
                          " and so not trained: train before quantize_weights, or name other parameters"));
  }
}

std::vector<ModelParameter> trained_parameters(const ModelSpec& spec, const std::string& selection,
                                               const std::string& path) {
  const RegularExpression pattern = selection_pattern(selection, path);
  std::vector<ModelParameter> trained;
  for (const ModelParameter& parameter : model_parameters(spec)) {
    if (pattern.matches(parameter.name)) trained.push_back(parameter);
  }
  return trained;
}

TrainableParameters::TrainableParameters(Decoder& decoder, const std::string& selection, const std::string& path) {
  const RegularExpression pattern = selection_pattern(selection, path);
  std::vector<std::pair<std::string, at::Tensor*>> chosen;
  check_trainable(decoder.spec(), selection, path);
  decoder.visit_parameters([&](const std::string& name, at::Tensor& parameter) {
    if (!pattern.matches(name)) return;
    check_dtype(name, parameter, decoder.compute_dtype, path);
    chosen.emplace_back(name, &parameter);
  });
  if (chosen.empty()) {
    throw ConfigError(cat(path, ": '", selection,
                          "' matches no parameter; known: all, attention, attention_and_norms, ",
                          "or a regular expression for names such as model.layers.0.self_attn.q_proj.weight"));
  }
  for (const auto& [name, parameter] : chosen) {
    *parameter = parameter->detach().contiguous().requires_grad_(true);
    parameters_.emplace_back(name, *parameter);
  }
}

TrainableParameters::~TrainableParameters() {
  for (auto& [name, parameter] : parameters_) {
    parameter.mutable_grad().reset();
    parameter.requires_grad_(false);
  }
}

void TrainableParameters::restore(const std::map<std::string, at::Tensor>& state, const std::string& prefix) {
  const at::NoGradGuard no_grad;
  for (auto& [name, parameter] : parameters_) copy_from_state(state, prefix + name, parameter);
}

std::vector<at::Tensor> TrainableParameters::values() const {
  std::vector<at::Tensor> values;
  for (const auto& [name, parameter] : parameters_) values.push_back(parameter);
  return values;
}

std::vector<at::Tensor> TrainableParameters::gradients() const {
  std::vector<at::Tensor> gradients;
  for (const auto& [name, parameter] : parameters_) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return gradients;
}

void TrainableParameters::zero_gradients() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

double TrainableParameters::clip_gradients(double limit) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> gradients = this->gradients(), norms = at::_foreach_norm(gradients, 2);
  const double norm = at::stack(norms).to(at::kDouble).norm().item<double>();
  if (limit > 0 && norm > limit) at::_foreach_mul_(gradients, limit / norm);
  return norm;
}

}  // namespace mla
