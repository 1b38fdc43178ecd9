#include "core/model/initialize.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/model/checkpoint.h"

namespace mla {
namespace {

at::Tensor normal(const std::string& name, const std::vector<std::int64_t>& shape, std::uint64_t seed,
                  double deviation) {
  RandomStream stream(seed, name);
  at::Tensor tensor = at::empty(shape, at::kFloat);
  float* data = tensor.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) data[i] = static_cast<float>(deviation * stream.normal());
  return tensor;
}

}  // namespace

Decoder initialize_decoder(const ModelSpec& spec, std::uint64_t seed, double deviation) {
  const double residual = 1 / std::sqrt(2 * static_cast<double>(spec.layer_count()));
  if (!model_storage(spec).empty())
    throw ConfigError("a new model has dense weights; this description holds some in another storage");
  WeightMap weights;
  for (const ModelParameter& parameter : model_parameters(spec)) {
    at::Tensor& tensor = weights[parameter.name];
    if (parameter.role == ParameterRole::kNorm) {
      tensor = at::full(parameter.shape, spec.norms_add_one ? 0.0 : 1.0, at::kFloat);
    } else if (parameter.role == ParameterRole::kBias) {
      tensor = at::zeros(parameter.shape, at::kFloat);
    } else {
      const double scale = parameter.role == ParameterRole::kResidual ? residual : 1;
      tensor = normal(parameter.name, parameter.shape, seed, scale * deviation);
    }
  }
  return build_decoder(spec, std::move(weights), "a new model", {});
}

}  // namespace mla
