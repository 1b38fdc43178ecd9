#include "core/compress/calibration/gathering.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/base/error.h"
#include "core/base/registry.h"

namespace mla {
namespace {

std::unique_ptr<Reducer> make_reducer(const Requirement& requirement) {
  Json config = requirement.options.empty() ? Json::object() : Json::parse(requirement.options);
  config["name"] = requirement.reducer;
  auto reducer = Registry<Reducer>::instance().make(config, "reducer");
  if (reducer->joins_taps() != requirement.with.has_value()) {
    throw ConfigError(cat("statistic ", requirement.name(), ": ", requirement.reducer,
                          reducer->joins_taps() ? " joins two taps" : " reads one tap"));
  }
  return reducer;
}

}  // namespace

Gathering::Gathering(const Requirements& requirements) : requirements_(requirements) {
  for (const Requirement& requirement : requirements) {
    if (make_reducer(requirement)->spans_layers()) spanning_[requirement] = {};
    add_tap(requirement.tap);
    if (requirement.with) add_tap(*requirement.with);
    gradients_ = gradients_ || requirement.gradient;
  }
  observer_.see = [this](Tap tap, std::int64_t layer, const at::Tensor& tensor) { see(tap, layer, tensor); };
}

void Gathering::add_tap(Tap tap) {
  if (!observer_.wants(tap)) observer_.taps.push_back(tap);
}

Reducer& Gathering::reducer(const Requirement& requirement, std::int64_t layer) {
  auto& reducer = reducers_[{requirement, layer}];
  if (!reducer) reducer = make_reducer(requirement);
  return *reducer;
}

void Gathering::see(Tap tap, std::int64_t layer, const at::Tensor& tensor) {
  for (const Requirement& requirement : requirements_) {
    if (requirement.tap != tap && requirement.with != tap) continue;
    if (!requirement.gradient) {
      take(requirement, tap, layer, tensor.detach());
    } else if (tensor.requires_grad()) {
      tensor.register_hook(
          [this, &requirement, tap, layer](const at::Tensor& gradient) { take(requirement, tap, layer, gradient); });
    }
  }
}

void Gathering::take(const Requirement& requirement, Tap tap, std::int64_t layer, const at::Tensor& tensor) {
  const at::NoGradGuard off;
  if (const auto layers = spanning_.find(requirement); layers != spanning_.end()) {
    // Gradients come from the last layer to the first.
    layers->second.insert(requirement.gradient ? layers->second.begin() : layers->second.end(), tensor);
  } else if (!requirement.with) {
    reducer(requirement, layer).add({tensor});
  } else if (*requirement.with == requirement.tap) {
    reducer(requirement, layer).add({tensor, tensor});
  } else if (at::Tensor& other = waiting_[{requirement, layer}]; !other.defined()) {
    other = tensor;
  } else {
    tap == requirement.tap ? reducer(requirement, layer).add({tensor, other})
                           : reducer(requirement, layer).add({other, tensor});
  }
}

void Gathering::end_batch() {
  for (auto& [requirement, layers] : spanning_) {
    if (!layers.empty()) reducer(requirement, kAllLayers).add(layers);
    layers.clear();
  }
  waiting_.clear();
}

void Gathering::finish(Statistics& statistics) const {
  for (const auto& [key, reducer] : reducers_) statistics.values[key] = reducer->result(statistics.tokens).to(at::kCPU);
}

}  // namespace mla
