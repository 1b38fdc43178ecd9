// Weights of layers that are there only while something is computed with them.
#pragma once

#include <cstddef>
#include <memory>

namespace mla {

/// Somebody who keeps the weights of layers elsewhere. A model whose activations are not kept (checkpoint_activations)
/// asks for them before it computes a group of layers, in forward passes and again for gradients.
class WeightKeeper {
 public:
  virtual ~WeightKeeper() = default;
  /// The weights of the layers [begin, end) are there until what this returns goes away.
  virtual std::shared_ptr<void> bring(std::size_t begin, std::size_t end) = 0;
};

/// Whom models ask that this thread computes; null: their weights are there.
WeightKeeper* weight_keeper();

/// Makes it `keeper` for as long as this lives.
class WeightKeeperScope {
 public:
  explicit WeightKeeperScope(WeightKeeper* keeper);
  ~WeightKeeperScope();
  WeightKeeperScope(const WeightKeeperScope&) = delete;
  WeightKeeperScope& operator=(const WeightKeeperScope&) = delete;

 private:
  WeightKeeper* before_;
};

}  // namespace mla
