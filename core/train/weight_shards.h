// Trained weights of layers, of which each process keeps its part (ZeRO 3, arXiv 1910.02054).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/model/model_spec.h"
#include "core/model/weight_keeper.h"
#include "core/train/adamw.h"
#include "core/train/collective.h"
#include "core/train/exchange_queue.h"

namespace mla {

/// Puts the weights of a group of layers together when it is computed, and drops them afterwards: a tensor that is not
/// there has its shape, and is NaN. What stands in no layer (embedding, output, last norm) stays as it is, and so does
/// what is not trained. All calls but own() are calls of all processes. Where exchanges go on beside what is computed,
/// the weights of the next group come while those of one are computed with.
class WeightShards final : public WeightKeeper {
 public:
  /// A parameter's place among all of them, laid end to end.
  struct Place {
    std::int64_t begin = 0;               ///< of the parameter
    std::vector<std::int64_t> counts;     ///< elements of it, by process
    std::int64_t own_begin = 0, own = 0;  ///< of this process's part of it, counted from the parameter's first element
  };
  /// `places` are those of `parameters`, of a model of this description; `told` hears of each group that is asked for.
  WeightShards(const ModelSpec& spec, const NamedTensors& parameters, const std::vector<Place>& places,
               Collective& processes, ExchangeQueue& queue, std::function<void(std::size_t group)> told);

  /// This process's part of parameter i, [elements], for good; undefined where the parameter stays whole.
  at::Tensor own(std::size_t index) const;

  /// Keeps the parts of what parameters hold now, and drops the rest.
  void take_apart();
  /// Parameters are whole again. With `for_good` the parts go as this proceeds, and nothing else may be asked for.
  void make_whole(bool for_good = false);

  /// Before a pass, which goes through all groups, and back again.
  void begin_pass();
  std::shared_ptr<void> bring(std::size_t begin, std::size_t end) override;
  /// Whether a parameter has no memory of its own: its values are in parts.
  static bool is_dropped(const at::Tensor& parameter);
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
  /// Weights of a group that are under way, [elements] on the CPU.
  struct Coming {
    std::size_t group = 0;
    at::Tensor all;
    ExchangeQueue::Ticket ticket = 0;
  };
  Coming ask_for(std::size_t group);
  at::Tensor arrived(const Coming& coming);
  /// The group after this one in a pass; nothing where the pass turns or ends.
  std::optional<std::size_t> next_after(std::size_t group);
  void drop(const Group& group);

  NamedTensors parameters_;
  std::vector<Place> places_;
  Collective& processes_;
  ExchangeQueue& queue_;
  std::function<void(std::size_t)> told_;
  std::vector<Group> groups_;
  bool goes_back_ = false;
  std::optional<Coming> coming_;
  std::vector<std::size_t> group_of_;  ///< by parameter; groups_.size() for one that stays whole
};

}  // namespace mla
