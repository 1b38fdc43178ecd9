// Which parameters of a model are trained.
#pragma once

#include <string>
#include <vector>

#include "core/model/decoder.h"
#include "core/train/adamw.h"

namespace mla {

/// Throws ConfigError ("<path>: …") when `selection` is no regular expression, or matches the weight of a linear map
/// that is held as codes.
void check_trainable(const ModelSpec& spec, const std::string& selection, const std::string& path);

/// The parameters that `selection` names, of a model of this description. Throws likewise.
std::vector<ModelParameter> trained_parameters(const ModelSpec& spec, const std::string& selection,
                                               const std::string& path);

/// The parameters that `selection` names require gradients as long as this object lives; afterwards they do not, and
/// their gradients are freed. `selection` is "all", "attention" (the attention's weights), "attention_and_norms" (what
/// MHA2MLA trains when everything else is frozen), or a regular expression (as Python's re) searched for in Hugging Face
/// parameter names. A non-contiguous parameter is replaced by a contiguous copy.
class TrainableParameters {
 public:
  /// Throws ConfigError ("<path>: …") as check_trainable() does, when `selection` matches no parameter, and when a
  /// matching parameter is held in another dtype than the decoder computes in, or in less than float32.
  TrainableParameters(Decoder& decoder, const std::string& selection, const std::string& path);
  ~TrainableParameters();
  TrainableParameters(const TrainableParameters&) = delete;
  TrainableParameters& operator=(const TrainableParameters&) = delete;

  const NamedTensors& named() const { return parameters_; }
  std::vector<at::Tensor> values() const;
  std::vector<at::Tensor> gradients() const;  ///< of those that have one

  /// Overwrites each parameter with the values of `state`'s tensor "<prefix><name>". Throws DataError when one is
  /// missing or of another shape.
  void restore(const std::map<std::string, at::Tensor>& state, const std::string& prefix);

  void zero_gradients();

  /// The 2-norm of all gradients together. Where it exceeds `limit` (> 0; 0: no limit), they are scaled down to it.
  double clip_gradients(double limit);

 private:
  NamedTensors parameters_;
};

}  // namespace mla
