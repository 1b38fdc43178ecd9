// The AdamW optimizer.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mla {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.01;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("beta1", self.beta1, "decay of the mean of gradients");
    visit("beta2", self.beta2, "decay of the mean of squared gradients");
    visit("epsilon", self.epsilon, "added to the root of the mean square");
    visit("weight_decay", self.weight_decay, "of matrices, times the learning rate; vectors do not decay");
  }

  /// Throws ConfigError for betas outside [0, 1), an epsilon that is not positive, or a negative decay.
  void validate(const std::string& path) const;
};

/// Tensors by name, in a fixed order.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Copies the values of `state`'s tensor `name` into `into`. Throws DataError when it is missing or of another shape.
void copy_from_state(const std::map<std::string, at::Tensor>& state, const std::string& name, at::Tensor& into);

/// With gradient g, in step t = 1, 2, … (arXiv 1711.05101, algorithm 2):
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///   p = (1 - lr * decay) p - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
/// Parameters of two and more dimensions decay, vectors (norm weights, biases) do not. Runs the fused multi-tensor
/// kernel of LibTorch. m and v have the parameters' dtype.
class AdamW {
 public:
  /// Parameters are shared, contiguous and updated in place.
  AdamW(const NamedTensors& parameters, const AdamWOptions& options);

  /// One update from the gradients that the parameters hold. One without a gradient stays as it is.
  void step(double learning_rate);

  /// "step" (one float32) and, for each parameter, "<name>.mean" and "<name>.mean_square", which share this
  /// optimizer's memory: a copy would take twice the parameters' bytes.
  NamedTensors state() const;

  /// Continues from the values of a state(). Throws DataError naming a tensor that is missing or of another shape.
  void restore(const std::map<std::string, at::Tensor>& state);

 private:
  struct Moments {
    std::string name;
    at::Tensor parameter, mean, mean_square;
  };
  void update(bool matrices, double learning_rate);

  AdamWOptions options_;
  std::vector<Moments> moments_;
  at::Tensor step_;  ///< float32 [], as the fused kernel wants it: whole numbers up to 2^24 are exact
};

}  // namespace mla
