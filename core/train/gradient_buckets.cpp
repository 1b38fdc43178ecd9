#include "core/train/gradient_buckets.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::int64_t kLeastBucketBytes = std::int64_t{1} << 18, kMostBucketBytes = std::int64_t{1} << 23;
constexpr std::int64_t kBucketShare = 32;

/// Called when a pass has added all that it has to a parameter's gradient.
struct GradientHook final : torch::autograd::PostAccumulateGradHook {
  explicit GradientHook(std::function<void()> given) : call(std::move(given)) {}
  void operator()(const at::Tensor&) override { call(); }
  std::function<void()> call;
};

bool is_of(const std::string& name, const ModelParameter& map) { return name.starts_with(map.map_name() + "."); }

/// The gradient of an output matrix comes without autograd, before the backward pass; of one that is tied to the
/// embedding it goes on there.
bool is_output(const ModelSpec& spec, const std::string& name) {
  return !spec.tied_embeddings && is_of(name, output_parameter(spec));
}

/// Later parts of a model have larger numbers.
std::int64_t depth_of(const ModelSpec& spec, const std::string& name) {
  if (const auto layer = layer_of(name)) return static_cast<std::int64_t>(*layer);
  if (is_output(spec, name)) return std::numeric_limits<std::int64_t>::max();
  return is_of(name, embedding_parameter(spec)) ? -1 : spec.layer_count();
}

std::vector<std::size_t> backward_order(const ModelSpec& spec, const ParameterBytes& parameters) {
  std::vector<std::int64_t> depths;
  for (const auto& [name, bytes] : parameters) depths.push_back(depth_of(spec, name));
  std::vector<std::size_t> order(parameters.size());
  std::iota(order.rbegin(), order.rend(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return depths[a] > depths[b]; });
  return order;
}

}  // namespace

std::optional<std::size_t> layer_of(const std::string& parameter) {
  constexpr std::string_view kLayers = "model.layers.";
  if (!parameter.starts_with(kLayers)) return {};
  return std::stoul(parameter.substr(kLayers.size()));
}

ParameterBytes bytes_of(const NamedTensors& parameters) {
  ParameterBytes bytes;
  for (const auto& [name, tensor] : parameters) bytes.emplace_back(name, static_cast<std::int64_t>(tensor.nbytes()));
  return bytes;
}

std::int64_t bucket_bytes(const ParameterBytes& parameters) {
  std::int64_t total = 0;
  for (const auto& [name, bytes] : parameters) total += bytes;
  return std::clamp(total / kBucketShare, kLeastBucketBytes, kMostBucketBytes);
}

std::vector<std::vector<std::size_t>> make_buckets(const ModelSpec& spec, const ParameterBytes& parameters) {
  const std::int64_t least = bucket_bytes(parameters);
  std::vector<std::vector<std::size_t>> buckets;
  std::int64_t open = 0;  // bytes of a bucket that takes more
  for (const std::size_t i : backward_order(spec, parameters)) {
    const std::int64_t bytes = parameters[i].second;
    if (open == 0 || bytes >= least) {
      buckets.emplace_back();
      open = 0;
    }
    buckets.back().push_back(i);
    open += bytes;
    if (open >= least) open = 0;
  }
  return buckets;
}

GradientBuckets::GradientBuckets(const ModelSpec& spec, const TrainableParameters& parameters, Collective& processes,
                                 ExchangeQueue& queue, std::function<void(std::size_t)> give)
    : parameters_(parameters.named()),
      processes_(processes),
      queue_(queue),
      give_(std::move(give)),
      buckets_(make_buckets(spec, bytes_of(parameters_))),
      bucket_of_(parameters_.size()) {
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    for (const std::size_t i : buckets_[b]) bucket_of_[i] = b;
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, parameter] = parameters_[i];
    if (is_output(spec, name)) before_.push_back(i);
    torch::autograd::impl::set_post_acc_grad_hooks(parameter,
                                                   std::make_unique<GradientHook>([this, i] { complete(i); }));
  }
  begin_step();
}

GradientBuckets::~GradientBuckets() {
  for (const auto& [name, parameter] : parameters_) torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
}

void GradientBuckets::begin_step() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
  had_.assign(parameters_.size(), false);
}

void GradientBuckets::begin_pass(bool gives) {
  gives_ = gives;
  next_ = 0;
  complete_.assign(parameters_.size(), false);
  missing_.clear();
  for (const std::vector<std::size_t>& bucket : buckets_) missing_.push_back(bucket.size());
}

void GradientBuckets::complete(std::size_t index) {
  if (!gives_) return;
  note(index);
  // It is told of first, whether there is one or not: what is exchanged when must be the same in all processes.
  for (const std::size_t i : before_) {
    if (!complete_[i]) note(i);
  }
  while (next_ < buckets_.size() && missing_[next_] == 0) give_next();
}

void GradientBuckets::note(std::size_t index) {
  expects(!complete_[index], "a pass completes a gradient once");
  complete_[index] = true;
  --missing_[bucket_of_[index]];
}

void GradientBuckets::give_next() {
  for (const std::size_t i : buckets_[next_]) had_[i] = had_[i] || parameters_[i].second.grad().defined();
  give_(next_++);
}

void GradientBuckets::end_pass() {
  if (!gives_) return;
  while (next_ < buckets_.size()) give_next();
  gives_ = false;
}

double GradientBuckets::sum_loss(double loss) {
  const at::Tensor cells = at::empty({1 + std::ssize(had_)}, at::kDouble);
  double* values = cells.mutable_data_ptr<double>();
  values[0] = loss;
  for (std::size_t i = 0; i < had_.size(); ++i) values[1 + i] = had_[i] ? 1 : 0;
  queue_.post({[this, cells] { processes_.sum_in_place(cells); }});
  queue_.wait();
  exists_.clear();
  for (std::size_t i = 0; i < had_.size(); ++i) exists_.push_back(values[1 + i] > 0);
  return values[0];
}

}  // namespace mla
