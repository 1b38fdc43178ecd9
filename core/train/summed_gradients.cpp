#include "core/train/summed_gradients.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace mla {

SummedGradients::SummedGradients(const ModelSpec& spec, TrainableParameters& parameters, Collective& processes,
                                 ExchangeQueue& queue)
    : parameters_(parameters),
      processes_(processes),
      queue_(queue),
      buckets_(spec, parameters, processes, queue, [this](std::size_t bucket) { sum(bucket); }) {}

/// The gradients of a bucket become parts of one tensor, so that sums need no way back.
void SummedGradients::sum(std::size_t bucket) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const std::size_t i : buckets_.parameters(bucket)) {
    const at::Tensor& parameter = parameters_.named()[i].second;
    gradients.push_back(parameter.grad().defined() ? parameter.grad().detach().reshape(-1)
                                                   : at::zeros({parameter.numel()}, parameter.detach().options()));
  }
  const at::Tensor all = gradients.size() == 1 ? gradients.front() : at::cat(gradients), host = all.to(at::kCPU);
  std::int64_t begin = 0;
  for (const std::size_t i : buckets_.parameters(bucket)) {
    const at::Tensor& parameter = parameters_.named()[i].second;
    parameter.mutable_grad() = all.narrow(0, begin, parameter.numel()).view(parameter.sizes());
    begin += parameter.numel();
  }
  ExchangeQueue::Exchange exchange{[this, host] { processes_.sum_in_place(host); }};
  if (!all.is_cpu()) exchange.then = [all, host] { all.copy_(host); };
  queue_.post(std::move(exchange));
}

double SummedGradients::sum_and_clip(double limit) {
  queue_.wait();
  for (std::size_t i = 0; i < parameters_.named().size(); ++i) {
    if (!buckets_.exists(i)) parameters_.named()[i].second.mutable_grad().reset();
  }
  return parameters_.clip_gradients(limit);
}

}  // namespace mla
