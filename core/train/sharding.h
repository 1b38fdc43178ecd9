// What the processes that train one model divide among them instead of each holding all of it (ZeRO, arXiv 1910.02054).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/model/safetensors_writer.h"
#include "core/train/adamw.h"
#include "core/train/bucket_layout.h"
#include "core/train/collective.h"
#include "core/train/exchange_queue.h"
#include "core/train/gradient_buckets.h"
#include "core/train/trainable.h"
#include "core/train/weight_shards.h"

namespace mla {

enum class Shard {
  kNone,       ///< nothing: every process holds all gradients and optimizer states
  kOptimizer,  ///< the optimizer's states (ZeRO 1); gradients are given away in a step's last pass
  kGradients,  ///< gradients too, given away in every pass as soon as they are known (ZeRO 2)
  kWeights,    ///< and the layers' weights, put together when they are computed with (ZeRO 3)
};
std::vector<std::pair<std::string, Shard>> enum_names(Shard);

/// Elements of each process's part, where `elements` that begin at `begin` of `total` are divided with the rest: part r
/// of all is [total * r / processes, total * (r + 1) / processes).
std::vector<std::int64_t> shard_counts(std::int64_t begin, std::int64_t elements, std::int64_t total,
                                       std::int64_t processes);

/// AdamW of several processes, each of which updates its part of the parameters and tells the others. Parts are cut
/// from all parameters laid end to end, so that they are equal to an element. Every call is one of all processes.
class ShardedAdamW final : public SharedGradients {
 public:
  /// Processes and queue are referred to, and the tensors of the parameters, of a model of this description.
  ShardedAdamW(const ModelSpec& spec, TrainableParameters& parameters, const AdamWOptions& options,
               Collective& processes, ExchangeQueue& queue, Shard shard);
  ~ShardedAdamW() override { queue_.stop(); }

  void begin_step() override;
  void begin_pass(bool last) override;
  void end_pass() override;
  void skip_pass() override;
  double sum_loss(double loss) override { return buckets_.sum_loss(loss); }
  double sum_and_clip(double limit) override;
  void step(double learning_rate);
  /// After the last step: frees all that this holds, whereupon parameters are whole. Nothing else may follow.
  void end();

  /// The optimizer's state, whole: what is in parts is put together when its values are asked for, by all processes in
  /// the same order.
  std::vector<TensorSource> state() const;
  /// Takes this process's parts from a whole state, whoever wrote it. Throws as AdamW::restore().
  void restore(const std::map<std::string, at::Tensor>& state);

  /// Where weights are divided, too, who has them for as long as they are; else null.
  WeightShards* weights() { return weights_ ? &*weights_ : nullptr; }
  /// The parameters that are in parts, likewise put together when they are asked for, by names with this before them.
  std::vector<TensorSource> divided_parameters(const std::string& prefix) const;

  /// Bytes of optimizer states that this process holds.
  std::int64_t state_bytes() const;

 private:
  /// A parameter and this process's part of it.
  struct Part {
    std::string name;
    at::Tensor parameter;
    std::vector<std::int64_t> counts;  ///< by process
    std::int64_t begin = 0;            ///< of the own part in the parameter
    at::Tensor own;                    ///< of it, whose gradient is the sum; [n, 1] of a matrix, [n] of a vector
    bool stays_whole = true;           ///< `own` is a view of the parameter
  };
  /// What a pass exchanges: a bucket of gradients, or the weights of a group of layers.
  struct Exchange {
    bool is_gradient = true;
    std::size_t index = 0;
    bool operator==(const Exchange&) const = default;
  };
  bool gives_away() const { return shard_ == Shard::kGradients || shard_ == Shard::kWeights; }
  std::int64_t bytes_of(const BucketLayout& layout) const;
  void give(std::size_t bucket);
  void sum(const BucketLayout& layout, const at::Tensor& gradients);
  void share(const BucketLayout& layout);
  at::Tensor whole(const Part& part, const at::Tensor& own) const;

  Collective& processes_;
  ExchangeQueue& queue_;
  Shard shard_;
  GradientBuckets buckets_;
  std::vector<BucketLayout> gradients_, shared_;  ///< of buckets; of what stays whole in them, if anything
  std::vector<Part> parts_;
  std::unique_ptr<AdamW> optimizer_;
  std::optional<WeightShards> weights_;
  std::vector<Exchange> order_, seen_;  ///< those of any pass, and of this one so far
};

}  // namespace mla
