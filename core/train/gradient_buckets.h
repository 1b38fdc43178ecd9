// Gradients in buckets, which are given away while a backward pass goes on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/model/model_spec.h"
#include "core/train/collective.h"
#include "core/train/exchange_queue.h"
#include "core/train/trainable.h"

namespace mla {

/// Names and bytes of parameters, in file order.
using ParameterBytes = std::vector<std::pair<std::string, std::int64_t>>;
ParameterBytes bytes_of(const NamedTensors& parameters);

/// Bytes from which on gradients of these parameters make a bucket: some megabytes, and a small part of all, since a
/// few buckets are there besides what is kept.
std::int64_t bucket_bytes(const ParameterBytes& parameters);

/// The layer in a parameter's name; nothing for one that stands in none.
std::optional<std::size_t> layer_of(const std::string& parameter);

/// Numbers of the parameters of a model in buckets, both in the order in which a backward pass completes gradients: of
/// an output matrix, the last norm, the layers from the last to the first, the embedding. It follows from names and
/// sizes alone, so that it is the same in all processes. Those of a bucket have bucket_bytes(), or are all before one
/// that has as many itself, which is alone.
std::vector<std::vector<std::size_t>> make_buckets(const ModelSpec& spec, const ParameterBytes& parameters);

/// What processes that train one model do with the gradients of a step.
class SharedGradients {
 public:
  virtual ~SharedGradients() = default;
  /// Before a step's first pass: no gradients.
  virtual void begin_step() = 0;
  /// Around a pass of this process; or instead of both in one that others make while this process has no rows left.
  virtual void begin_pass(bool last) = 0;
  virtual void end_pass() = 0;
  virtual void skip_pass() = 0;
  /// After the last pass: the sum of all processes' losses.
  virtual double sum_loss(double loss) = 0;
  /// Then: gradients are those of all processes, and scaled down to a 2-norm of `limit` (0: no limit). Returns their
  /// norm before that.
  virtual double sum_and_clip(double limit) = 0;
};

/// Tells when a bucket's gradients are complete. A pass has the same gradients in all processes, but for those that
/// have no part in its loss: they count as zeros.
class GradientBuckets {
 public:
  /// `give` is called for each bucket of a pass, in their order, by whoever computes: parameters hold their gradients,
  /// or none. Processes and queue are referred to.
  GradientBuckets(const ModelSpec& spec, const TrainableParameters& parameters, Collective& processes,
                  ExchangeQueue& queue, std::function<void(std::size_t bucket)> give);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  std::size_t size() const { return buckets_.size(); }
  const std::vector<std::size_t>& parameters(std::size_t bucket) const { return buckets_[bucket]; }

  void begin_step();  ///< no parameter has a gradient
  /// Without `gives` gradients stay where they are.
  void begin_pass(bool gives);
  /// Gives what the pass has left.
  void end_pass();

  /// After the last pass: the sum of `loss` over all processes. From then on exists() is known.
  double sum_loss(double loss);
  /// Whether parameter i had a gradient in any pass of any process.
  bool exists(std::size_t index) const { return exists_[index]; }

 private:
  void complete(std::size_t index);
  void note(std::size_t index);
  void give_next();

  NamedTensors parameters_;
  Collective& processes_;
  ExchangeQueue& queue_;
  std::function<void(std::size_t)> give_;
  std::vector<std::vector<std::size_t>> buckets_;
  std::vector<std::size_t> bucket_of_;  ///< by parameter
  std::vector<std::size_t> before_;     ///< parameters that are complete when a backward pass begins
  bool gives_ = false;                  ///< this pass
  std::size_t next_ = 0;                ///< bucket to give
  std::vector<bool> complete_;          ///< by parameter, in this pass
  std::vector<std::size_t> missing_;    ///< by bucket: gradients that are not
  std::vector<bool> had_, exists_;      ///< by parameter: whether it had a gradient in this step, here; anywhere
};

}  // namespace mla
