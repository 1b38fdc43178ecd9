// Trained weights of layers, of which each process keeps its part (ZeRO 3, arXiv 1910.02054).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/model/model_spec.h"
#include "core/model/weight_keeper.h"
#include "core/train/adamw.h"
#include "core/train/collective.h"

namespace mla {

/// Puts the weights of a group of layers together when it is computed, and drops them afterwards: a tensor that is not
/// there has its shape, and is NaN. What stands in no layer (embedding, output, last norm) stays as it is, and so does
/// what is not trained. All calls but own() are calls of all processes.
class WeightShards final : public WeightKeeper {
 public:
  /// A parameter's place among all of them, laid end to end.
  struct Place {
    std::int64_t begin = 0;               ///< of the parameter
    std::vector<std::int64_t> counts;     ///< elements of it, by process
    std::int64_t own_begin = 0, own = 0;  ///< of this process's part of it, counted from the parameter's first element
  };
  /// `places` are those of `parameters`, of a model of this description; `told` hears of each group that is brought.
  WeightShards(const ModelSpec& spec, const NamedTensors& parameters, const std::vector<Place>& places,
               Collective& processes, std::function<void(std::size_t group)> told);

  /// This process's part of parameter i, [elements], for good; undefined where the parameter stays whole.
  at::Tensor own(std::size_t index) const;

  /// Keeps the parts of what parameters hold now, and drops the rest.
  void take_apart();
  /// Parameters are whole again. With `for_good` the parts go as this proceeds, and nothing else may be asked for.
  void make_whole(bool for_good = false);

  std::shared_ptr<void> bring(std::size_t begin, std::size_t end) override;
  /// Takes part in what other processes do by bring().
  void help_bring(std::size_t group);

 private:
  struct Group {
    std::size_t first_layer = 0;
    std::vector<std::size_t> parameters;  ///< numbers of those in these layers
    std::int64_t begin = 0, elements = 0;
    std::vector<std::int64_t> counts;  ///< by process
    std::int64_t own_begin = 0;        ///< of the own part in the group
    at::Tensor own;
  };
  at::Tensor together(const Group& group) const;
  void drop(const Group& group);

  NamedTensors parameters_;
  std::vector<Place> places_;
  Collective& processes_;
  std::function<void(std::size_t)> told_;
  std::vector<Group> groups_;
  std::vector<std::size_t> group_of_;  ///< by parameter; groups_.size() for one that stays whole
};

}  // namespace mla
