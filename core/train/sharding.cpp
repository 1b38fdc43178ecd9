#include "core/train/sharding.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace mla {
namespace {

std::int64_t sum_of(const std::vector<std::int64_t>& counts, std::int64_t first) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < first; ++i) sum += counts[static_cast<std::size_t>(i)];
  return sum;
}

}  // namespace

std::vector<std::pair<std::string, Shard>> enum_names(Shard) {
  return {{"none", Shard::kNone},
          {"optimizer", Shard::kOptimizer},
          {"gradients", Shard::kGradients},
          {"weights", Shard::kWeights}};
}

std::vector<std::int64_t> shard_counts(std::int64_t begin, std::int64_t elements, std::int64_t total,
                                       std::int64_t processes) {
  // Without overflow where total * processes would have one.
  const auto bound = [&](std::int64_t rank) { return total / processes * rank + std::min(rank, total % processes); };
  std::vector<std::int64_t> counts;
  for (std::int64_t rank = 0; rank < processes; ++rank) {
    const std::int64_t first = std::clamp(bound(rank), begin, begin + elements),
                       last = std::clamp(bound(rank + 1), begin, begin + elements);
    counts.push_back(last - first);
  }
  return counts;
}

ShardedAdamW::ShardedAdamW(const ModelSpec& spec, TrainableParameters& parameters, const AdamWOptions& options,
                           Collective& processes, ExchangeQueue& queue, Shard shard)
    : processes_(processes),
      queue_(queue),
      shard_(shard),
      buckets_(spec, parameters, processes, queue, [this](std::size_t bucket) { give(bucket); }) {
  std::int64_t total = 0, begin = 0;
  for (const auto& [name, parameter] : parameters.named()) total += parameter.numel();
  std::vector<WeightShards::Place> places;
  for (const auto& [name, parameter] : parameters.named()) {
    WeightShards::Place place{begin, shard_counts(begin, parameter.numel(), total, processes.size()), 0, 0};
    place.own_begin = sum_of(place.counts, processes.rank());
    place.own = place.counts[static_cast<std::size_t>(processes.rank())];
    begin += parameter.numel();
    places.push_back(std::move(place));
  }
  if (shard == Shard::kWeights) {
    weights_.emplace(spec, parameters.named(), places, processes, queue, [this](std::size_t group) {
      seen_.push_back({false, group});
    });
  }
  NamedTensors own;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto& [name, parameter] = parameters.named()[i];
    const WeightShards::Place& place = places[i];
    Part part{name, parameter, place.counts, place.own_begin, weights_ ? weights_->own(i) : at::Tensor(), false};
    part.stays_whole = !part.own.defined();
    if (part.stays_whole) part.own = parameter.detach().view(-1).narrow(0, place.own_begin, place.own);
    if (parameter.dim() >= 2) part.own = part.own.unsqueeze(1);  // matrices decay, vectors do not
    if (place.own > 0) own.emplace_back(name, part.own);
    parts_.push_back(std::move(part));
  }
  expects(!own.empty(), "every process has parameters to update");
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    std::vector<std::size_t> whole = buckets_.parameters(b);
    gradients_.emplace_back(whole, places, processes.rank());
    std::erase_if(whole, [this](std::size_t i) { return !parts_[i].stays_whole; });
    if (!whole.empty()) shared_.emplace_back(whole, places, processes.rank());
  }
  if (weights_) weights_->take_apart();  // before there is more
  optimizer_ = std::make_unique<AdamW>(own, options);
}

void ShardedAdamW::begin_step() {
  buckets_.begin_step();
  for (Part& part : parts_) part.own.mutable_grad().reset();
}

void ShardedAdamW::begin_pass(bool last) {
  if (weights_) weights_->begin_pass();
  buckets_.begin_pass(last || gives_away());
}

std::int64_t ShardedAdamW::bytes_of(const BucketLayout& layout) const {
  return layout.elements() * static_cast<std::int64_t>(parts_.front().own.element_size());
}

void ShardedAdamW::give(std::size_t bucket) {
  const at::NoGradGuard no_grad;
  const BucketLayout& layout = gradients_[bucket];
  queue_.make_room(bytes_of(layout));  // before there is a copy
  std::vector<at::Tensor> flat;
  for (const std::size_t i : layout.parameters()) {
    const at::Tensor& parameter = parts_[i].parameter;
    flat.push_back(parameter.grad().defined() ? parameter.grad().detach().reshape(-1)
                                              : at::zeros({parameter.numel()}, parameter.detach().options()));
    parameter.mutable_grad().reset();
  }
  const at::Tensor all = layout.pack(flat);
  flat.clear();
  seen_.push_back({true, bucket});
  sum(layout, all);
}

void ShardedAdamW::sum(const BucketLayout& layout, const at::Tensor& gradients) {
  const at::Tensor own = at::empty({layout.own_elements()}, gradients.options());
  const auto add = [this, &layout, own] {
    const at::NoGradGuard no_grad;
    layout.visit_own(own.to(parts_.front().own.device()), [this](std::size_t i, const at::Tensor& part) {
      at::Tensor& total = parts_[i].own.mutable_grad();
      const at::Tensor sum = part.view(parts_[i].own.sizes());
      total = total.defined() ? total.add_(sum) : sum;
    });
  };
  queue_.post({[this, &layout, gradients, own] { processes_.sum_parts(gradients, layout.counts(), own); }, add,
               bytes_of(layout)});
}

void ShardedAdamW::end_pass() {
  buckets_.end_pass();
  if (gives_away()) {
    expects(order_.empty() || order_ == seen_, "every pass has the same gradients in the same order");
    order_ = std::move(seen_);
  }
  seen_.clear();
}

void ShardedAdamW::skip_pass() {
  if (!gives_away()) return;
  for (const Exchange& exchange : order_) {
    if (!exchange.is_gradient) {
      weights_->help_bring(exchange.index);
      continue;
    }
    const BucketLayout& layout = gradients_[exchange.index];
    queue_.make_room(bytes_of(layout));
    sum(layout, at::zeros({layout.elements()}, parts_.front().own.detach().options().device(at::kCPU)));
  }
}

double ShardedAdamW::sum_and_clip(double limit) {
  queue_.wait();
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (!buckets_.exists(i)) parts_[i].own.mutable_grad().reset();
  }
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  double squares = 0;
  for (const Part& part : parts_) {
    if (part.own.grad().defined() && part.own.numel() > 0) gradients.push_back(part.own.grad());
  }
  if (!gradients.empty()) {
    const double norm = at::stack(at::_foreach_norm(gradients, 2)).to(at::kDouble).norm().item<double>();
    squares = norm * norm;
  }
  const double norm = std::sqrt(processes_.sum(squares));
  if (limit > 0 && norm > limit && !gradients.empty()) at::_foreach_mul_(gradients, limit / norm);
  return norm;
}

void ShardedAdamW::step(double learning_rate) {
  optimizer_->step(learning_rate);
  for (const BucketLayout& layout : shared_) {
    const std::vector<std::size_t>& some = layout.parameters();
    // Without a gradient nothing has changed.
    if (std::any_of(some.begin(), some.end(), [this](std::size_t i) { return buckets_.exists(i); })) share(layout);
  }
  queue_.wait();
}

void ShardedAdamW::share(const BucketLayout& layout) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> flat;
  for (const std::size_t i : layout.parameters()) flat.push_back(parts_[i].parameter.detach().view(-1));
  if (flat.size() == 1 && flat.front().is_cpu()) {  // needs no copy
    queue_.post({[this, &layout, all = flat.front()] { processes_.share_parts(all, layout.counts()); }});
    return;
  }
  queue_.make_room(bytes_of(layout));
  const at::Tensor all = at::empty({layout.elements()}, flat.front().options().device(at::kCPU));
  layout.put_own(all, flat);
  const auto take = [&layout, all, flat] {
    const at::NoGradGuard off;
    layout.take_all(all, flat);
  };
  queue_.post({[this, &layout, all] { processes_.share_parts(all, layout.counts()); }, take, bytes_of(layout)});
}

void ShardedAdamW::end() {
  optimizer_.reset();
  for (Part& part : parts_) {
    part.own.mutable_grad().reset();
    part.own.reset();
  }
  if (weights_) weights_->make_whole(/*for_good=*/true);
}

at::Tensor ShardedAdamW::whole(const Part& part, const at::Tensor& own) const {
  const at::NoGradGuard no_grad;
  at::Tensor all = at::zeros(part.parameter.sizes(), own.options().device(at::kCPU));
  if (own.numel() > 0) all.view(-1).narrow(0, part.begin, own.numel()).copy_(own.view(-1));
  processes_.share_parts(all.view(-1), part.counts);
  return all;
}

std::vector<TensorSource> ShardedAdamW::state() const {
  std::map<std::string, at::Tensor> own;
  for (const auto& [name, tensor] : optimizer_->state()) own[name] = tensor;
  std::vector<TensorSource> all = {source_of("step", own.at("step"))};
  for (const Part& part : parts_) {
    for (const char* moment : {".mean", ".mean_square"}) {
      const auto found = own.find(part.name + moment);
      const at::Tensor values = found == own.end() ? part.own.detach() : found->second;
      all.push_back({part.name + moment, part.parameter.scalar_type(), part.parameter.sizes().vec(),
                     [this, &part, values] { return whole(part, values); }});
    }
  }
  return all;
}

void ShardedAdamW::restore(const std::map<std::string, at::Tensor>& state) {
  std::map<std::string, at::Tensor> own = state;
  for (const Part& part : parts_) {
    for (const char* moment : {".mean", ".mean_square"}) {
      const auto found = own.find(part.name + moment);
      if (found == own.end() || found->second.sizes() != part.parameter.sizes())
        continue;  // is told of by the optimizer
      found->second =
          found->second.contiguous().view(-1).narrow(0, part.begin, part.own.numel()).view(part.own.sizes());
    }
  }
  optimizer_->restore(own);
}

std::vector<TensorSource> ShardedAdamW::divided_parameters(const std::string& prefix) const {
  std::vector<TensorSource> all;
  for (const Part& part : parts_) {
    if (part.stays_whole) continue;
    all.push_back({prefix + part.name, part.parameter.scalar_type(), part.parameter.sizes().vec(),
                   [this, &part] { return whole(part, part.own.detach()); }});
  }
  return all;
}

std::int64_t ShardedAdamW::state_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [name, tensor] : optimizer_->state()) bytes += static_cast<std::int64_t>(tensor.nbytes());
  return bytes;
}

}  // namespace mla
