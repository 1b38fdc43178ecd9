// Gradients of several processes of which each holds all.
#pragma once

#include "core/train/gradient_buckets.h"

namespace mla {

/// Gradients stay whole: in a step's last pass each bucket is summed as it is complete.
class SummedGradients final : public SharedGradients {
 public:
  /// All but the description is referred to.
  SummedGradients(const ModelSpec& spec, TrainableParameters& parameters, Collective& processes, ExchangeQueue& queue);
  ~SummedGradients() override { queue_.stop(); }

  void begin_step() override { buckets_.begin_step(); }
  void begin_pass(bool last) override { buckets_.begin_pass(last); }
  void end_pass() override { buckets_.end_pass(); }
  void skip_pass() override {}
  double sum_loss(double loss) override { return buckets_.sum_loss(loss); }
  double sum_and_clip(double limit) override;

 private:
  void sum(std::size_t bucket);

  TrainableParameters& parameters_;
  Collective& processes_;
  ExchangeQueue& queue_;
  GradientBuckets buckets_;
};

}  // namespace mla
