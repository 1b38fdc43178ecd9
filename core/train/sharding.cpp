#include "core/train/sharding.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/base/error.h"

namespace mla {
namespace {

/// Called when a pass has added all that it has to a parameter's gradient.
struct GradientHook final : torch::autograd::PostAccumulateGradHook {
  explicit GradientHook(std::function<void()> given) : call(std::move(given)) {}
  void operator()(const at::Tensor&) override { call(); }
  std::function<void()> call;
};

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
                           Collective& processes, Shard shard)
    : parameters_(parameters), processes_(processes), shard_(shard) {
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
    weights_.emplace(spec, parameters.named(), places, processes, [this](std::size_t group) {
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
  if (weights_) weights_->take_apart();  // before there is more
  optimizer_ = std::make_unique<AdamW>(own, options);
  if (!gives_away()) return;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(parts_[i].parameter,
                                                   std::make_unique<GradientHook>([this, i] { reduce(i); }));
  }
}

ShardedAdamW::~ShardedAdamW() {
  if (!gives_away()) return;
  for (const Part& part : parts_) torch::autograd::impl::set_post_acc_grad_hooks(part.parameter, nullptr);
}

void ShardedAdamW::begin_step() {
  parameters_.zero_gradients();
  for (Part& part : parts_) part.own.mutable_grad().reset();
}

void ShardedAdamW::add_sum(Part& part, const at::Tensor& gradient) {
  const at::NoGradGuard no_grad;
  const at::Tensor host = gradient.detach().to(at::kCPU).contiguous().view(-1);
  at::Tensor sum = at::empty({part.own.numel()}, host.options());
  processes_.sum_parts(host, part.counts, sum);
  at::Tensor& total = part.own.mutable_grad();
  sum = sum.view(part.own.sizes()).to(part.own.device());
  total = total.defined() ? total.add_(sum) : sum;
}

void ShardedAdamW::reduce(std::size_t index) {
  Part& part = parts_[index];
  add_sum(part, part.parameter.grad());
  part.parameter.mutable_grad().reset();
  seen_.push_back({true, index});
}

void ShardedAdamW::end_pass() {
  if (!gives_away()) return;
  // Gradients that come without autograd: the output matrix's.
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].parameter.grad().defined()) reduce(i);
  }
  expects(order_.empty() || order_ == seen_, "every pass has the same gradients in the same order");
  order_ = std::move(seen_);
  seen_.clear();
}

void ShardedAdamW::skip_pass() {
  if (!gives_away()) return;
  for (const Exchange& exchange : order_) {
    if (!exchange.is_gradient) {
      weights_->help_bring(exchange.index);
      continue;
    }
    Part& part = parts_[exchange.index];
    add_sum(part, at::zeros(part.parameter.sizes(), part.own.options()));
  }
}

double ShardedAdamW::sum_and_clip(double limit) {
  for (std::size_t i = 0; i < parts_.size() && !gives_away(); ++i) {
    if (parts_[i].parameter.grad().defined()) reduce(i);
  }
  seen_.clear();
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
  const at::NoGradGuard no_grad;
  for (const Part& part : parts_) {
    if (!part.own.grad().defined() || !part.stays_whole) continue;  // of no process: the graph is the same in all
    const at::Tensor values = part.parameter.detach(), host = values.to(at::kCPU);
    processes_.share_parts(host.view(-1), part.counts);
    if (!values.is_cpu()) values.copy_(host);
  }
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
