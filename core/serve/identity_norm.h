// Other engines normalise the latent, our models do not: how that norm is made to change nothing.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

struct DeepSeekLayer;

/// The epsilon that transformers and MLX give the norm on the latent, whatever the config says; vLLM, SGLang and
/// llama.cpp give it the model's.
inline constexpr double kLatentEpsilon = 1e-6;

/// The norm on the latent, w c / sqrt(mean(c^2) + epsilon), becomes the identity where epsilon is all there is of the
/// root: rows of the latent are made so small that their squares do not count, and w takes that back. In float16 such
/// rows would vanish, so that the norm of the layer's input carries half of it.
struct IdentityNorm {
  double epsilon = kLatentEpsilon;  ///< of every norm of the file
  double residual = 1;  ///< what is written into the residual stream is multiplied by this, where epsilon changes
  double input = 1;     ///< weights of the norm before attention are; queries and rotated keys are divided by it
  double latent = 1;    ///< rows of the latent are, besides

  /// What the latent is multiplied by in all, and what the norm's weight is to be.
  double shrink() const { return input * latent; }
  double weight() const;
  /// By how much, relative, the norm changes a latent of this root mean square.
  double error(double rms) const;
};

/// For a model whose norms have `source_epsilon` and a file that states `epsilon`; no token's latent has a larger root
/// mean square than `largest_rms`. `narrow`: weights are stored as float16; `largest_query` is then the largest weight
/// among queries and rotated keys, which must not overflow.
IdentityNorm identity_norm(double source_epsilon, double epsilon, double largest_rms, bool narrow,
                           double largest_query);

/// Applies it to a layer that computes without norm.
void apply_norm(const IdentityNorm& norm, DeepSeekLayer& layer);

}  // namespace mla
