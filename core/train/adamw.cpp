#include "core/train/adamw.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/base/error.h"

namespace mla {
namespace {

void check_beta(const std::string& path, double beta) {
  if (!(beta >= 0 && beta < 1)) throw ConfigError(cat(path, ": ", beta, " is outside 0 <= beta < 1"));
}

}  // namespace

void AdamWOptions::validate(const std::string& path) const {
  check_beta(path + ".beta1", beta1);
  check_beta(path + ".beta2", beta2);
  if (!(epsilon > 0)) throw ConfigError(cat(path, ".epsilon: ", epsilon, " is not positive"));
  if (!(weight_decay >= 0)) throw ConfigError(cat(path, ".weight_decay: ", weight_decay, " is negative"));
}

void copy_from_state(const std::map<std::string, at::Tensor>& state, const std::string& name, at::Tensor& into) {
  const auto found = state.find(name);
  if (found == state.end()) throw DataError(cat("training state: tensor ", name, " is missing"));
  if (found->second.sizes() != into.sizes()) {
    throw DataError(
        cat("training state: ", name, ": expected shape ", into.sizes(), ", found ", found->second.sizes()));
  }
  into.copy_(found->second);
}

AdamW::AdamW(const NamedTensors& parameters, const AdamWOptions& options) : options_(options) {
  expects(!parameters.empty(), "an optimizer needs parameters");
  for (const auto& [name, parameter] : parameters) {
    expects(parameter.is_contiguous(), cat(name, " is not contiguous"));
    const at::Tensor values = parameter.detach();
    moments_.push_back({name, parameter, at::zeros_like(values), at::zeros_like(values)});
  }
  step_ = at::zeros({}, moments_.front().parameter.options().dtype(at::kFloat).requires_grad(false));
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  step_.add_(1);
  update(true, learning_rate);
  update(false, learning_rate);
}

void AdamW::update(bool matrices, double learning_rate) {
  std::vector<at::Tensor> parameters, gradients, means, mean_squares;
  for (const Moments& moments : moments_) {
    const at::Tensor& gradient = moments.parameter.grad();
    if (!gradient.defined() || (moments.parameter.dim() >= 2) != matrices) continue;
    // The kernel walks raw memory: another order of elements would go unnoticed.
    expects(gradient.is_contiguous(), cat("the gradient of ", moments.name, " is not contiguous"));
    parameters.push_back(moments.parameter);
    gradients.push_back(gradient);
    means.push_back(moments.mean);
    mean_squares.push_back(moments.mean_square);
  }
  if (parameters.empty()) return;
  const std::vector<at::Tensor> steps(parameters.size(), step_);
  at::_fused_adamw_(parameters, gradients, means, mean_squares, {}, steps, learning_rate, options_.beta1,
                    options_.beta2, matrices ? options_.weight_decay : 0.0, options_.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false);
}

NamedTensors AdamW::state() const {
  NamedTensors state{{"step", step_}};
  for (const Moments& moments : moments_) {
    state.emplace_back(moments.name + ".mean", moments.mean);
    state.emplace_back(moments.name + ".mean_square", moments.mean_square);
  }
  return state;
}

void AdamW::restore(const std::map<std::string, at::Tensor>& state) {
  const at::NoGradGuard no_grad;
  copy_from_state(state, "step", step_);
  for (Moments& moments : moments_) {
    copy_from_state(state, moments.name + ".mean", moments.mean);
    copy_from_state(state, moments.name + ".mean_square", moments.mean_square);
  }
}

}  // namespace mla
