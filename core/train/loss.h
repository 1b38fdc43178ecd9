// What training minimises, and its gradient.
#pragma once

#include "core/model/decoder.h"
#include "core/train/batches.h"

namespace mla {

/// A weighted sum of losses, each summed over the scored positions.
struct LossOptions {
  double cross_entropy = 1;
  double distillation = 0;
  double temperature = 1;
  double hidden_state = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("cross_entropy", self.cross_entropy, "weight of -log p(next token)");
    visit("distillation", self.distillation, "weight of T^2 KL(teacher || student) over the vocabulary");
    visit("temperature", self.temperature, "T, by which distillation divides the logits of both");
    visit("hidden_state", self.hidden_state,
          "weight of |h - h'|^2 / |h'|^2, with h the final normalised hidden state and h' the teacher's");
  }

  bool needs_teacher() const { return distillation > 0 || hidden_state > 0; }

  /// Throws ConfigError for weights that are negative or all 0, and a temperature that is not positive.
  void validate(const std::string& path) const;
};

/// Adds scale * d(sum of losses over the batch's scored positions) / d(parameter) to the gradient of every parameter
/// that requires one, and returns the sum itself (cross-entropy and distillation in nats), one float64 where the model
/// stands: reading it waits for the pass. With scale = 1 / (scored
/// positions of a whole step) the parts of a step add up to the gradient of its mean loss, however unequal they are.
/// `teacher` reads the same ids, without gradients; null unless options.needs_teacher(). Logits exist for a chunk of
/// positions at a time: at most `logit_elements` of them, or one position's (and as many of the teacher's).
/// Throws ConfigError for a teacher with another vocabulary, or whose hidden states are compared and differ in width.
at::Tensor accumulate_gradients(const Decoder& decoder, const Batch& batch, double scale,
                                const LossOptions& options = {}, const Decoder* teacher = nullptr,
                                std::int64_t logit_elements = std::int64_t{1} << 24);

}  // namespace mla
