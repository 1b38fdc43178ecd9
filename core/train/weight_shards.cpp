#include "core/train/weight_shards.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/train/gradient_buckets.h"

namespace mla {
WeightShards::WeightShards(const ModelSpec& spec, const NamedTensors& parameters, const std::vector<Place>& places,
                           Collective& processes, ExchangeQueue& queue, std::function<void(std::size_t)> told)
    : parameters_(parameters), places_(places), processes_(processes), queue_(queue), told_(std::move(told)) {
  const std::vector<std::size_t> boundaries = group_boundaries(spec);
  groups_.resize(boundaries.size() - 1);
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    groups_[g].first_layer = boundaries[g];
    groups_[g].counts.assign(static_cast<std::size_t>(processes.size()), 0);
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const std::optional<std::size_t> layer = layer_of(parameters_[i].first);
    group_of_.push_back(groups_.size());
    if (!layer) continue;
    const auto next = std::upper_bound(boundaries.begin(), boundaries.end(), *layer);
    group_of_.back() = static_cast<std::size_t>(next - boundaries.begin()) - 1;
    Group& group = groups_.at(group_of_.back());
    if (group.parameters.empty()) group.begin = places_[i].begin;
    expects(places_[i].begin == group.begin + group.elements, "a group's parameters stand one after the other");
    group.parameters.push_back(i);
    group.elements += parameters_[i].second.numel();
    for (std::size_t rank = 0; rank < group.counts.size(); ++rank) group.counts[rank] += places_[i].counts[rank];
  }
  for (Group& group : groups_) {
    if (group.parameters.empty()) continue;
    const auto rank = static_cast<std::ptrdiff_t>(processes.rank());
    for (std::ptrdiff_t before = 0; before < rank; ++before)
      group.own_begin += group.counts[static_cast<std::size_t>(before)];
    const at::Tensor like = parameters_[group.parameters.front()].second.detach();
    group.own = at::empty({group.counts[static_cast<std::size_t>(rank)]}, like.options());
  }
}

at::Tensor WeightShards::own(std::size_t index) const {
  if (group_of_.at(index) == groups_.size()) return {};
  const Group& group = groups_[group_of_[index]];
  const Place& place = places_[index];
  if (place.own == 0) return group.own.narrow(0, 0, 0);
  return group.own.narrow(0, place.begin + place.own_begin - group.begin - group.own_begin, place.own);
}

void WeightShards::take_apart() {
  const at::NoGradGuard no_grad;
  for (const Group& group : groups_) {
    for (const std::size_t i : group.parameters) {
      own(i).copy_(parameters_[i].second.detach().view(-1).narrow(0, places_[i].own_begin, places_[i].own));
    }
    drop(group);
  }
}

void WeightShards::drop(const Group& group) {
  for (const std::size_t i : group.parameters) {
    const at::Tensor& parameter = parameters_[i].second;
    const at::Tensor nothing =
        at::full({1}, std::numeric_limits<double>::quiet_NaN(), parameter.options().requires_grad(false));
    parameter.set_data(nothing.expand(parameter.sizes()));
  }
}

bool WeightShards::is_dropped(const at::Tensor& parameter) {
  return parameter.numel() > 1 && static_cast<std::int64_t>(parameter.storage().nbytes()) == parameter.element_size();
}

WeightShards::Coming WeightShards::ask_for(std::size_t index) {
  const at::NoGradGuard no_grad;
  const Group& group = groups_.at(index);
  const at::Tensor all = at::empty({group.elements}, group.own.options().device(at::kCPU));
  all.narrow(0, group.own_begin, group.own.numel()).copy_(group.own);
  return {index, all, queue_.post({[this, all, &group] { processes_.share_parts(all, group.counts); }})};
}

at::Tensor WeightShards::arrived(const Coming& coming) {
  queue_.wait(coming.ticket);
  return coming.all.to(groups_[coming.group].own.device());
}

void WeightShards::begin_pass() {
  expects(!coming_, "a pass goes back through all groups before the next begins");
  goes_back_ = false;
}

std::optional<std::size_t> WeightShards::next_after(std::size_t group) {
  for (std::size_t next = group; goes_back_ ? next-- > 0 : ++next < groups_.size();) {
    if (!groups_[next].parameters.empty()) return next;
  }
  goes_back_ = true;
  return {};
}

std::shared_ptr<void> WeightShards::bring(std::size_t begin, std::size_t) {
  const auto found =
      std::find_if(groups_.begin(), groups_.end(), [&](const Group& group) { return group.first_layer == begin; });
  expects(found != groups_.end(), "layers are computed by the groups that hand things on to each other");
  if (found->parameters.empty()) return {};
  const auto index = static_cast<std::size_t>(found - groups_.begin());
  if (!coming_) {
    told_(index);
    coming_ = ask_for(index);
  }
  expects(coming_->group == index, "a pass goes through all groups, and back again");
  const at::Tensor all = arrived(*std::exchange(coming_, std::nullopt));
  if (const auto next = next_after(index); next && queue_.beside()) {
    told_(*next);
    coming_ = ask_for(*next);
  }
  for (const std::size_t i : found->parameters) {
    const at::Tensor& parameter = parameters_[i].second;
    parameter.set_data(all.narrow(0, places_[i].begin - found->begin, parameter.numel()).view(parameter.sizes()));
  }
  const Group* group = &*found;
  return {all.unsafeGetTensorImpl(), [this, group](void*) { drop(*group); }};
}

void WeightShards::help_bring(std::size_t group) { arrived(ask_for(group)); }

void WeightShards::make_whole(bool for_good) {
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    if (group.parameters.empty()) continue;
    const at::Tensor all = arrived(ask_for(g));
    for (const std::size_t i : group.parameters) {
      const at::Tensor& parameter = parameters_[i].second;
      const at::Tensor values = all.narrow(0, places_[i].begin - group.begin, parameter.numel());
      parameter.set_data(values.view(parameter.sizes()).clone());
    }
    if (for_good) group.own.reset();
  }
}

}  // namespace mla
