#include "core/compress/mean_key/fit.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/linalg/svd.h"

namespace mla {
namespace {

/// Directions with less than this share of the largest variance count as having none.
constexpr double kNoVariance = 1e-12;
/// The share of a metric's mean eigenvalue that is added to all of them.
constexpr double kRootDamping = 1e-6;
/// A rotation can be left out only so far without a loss.
constexpr double kLeastLoss = 1e-4;
/// Rows that depend on each other are told by this share of the largest eigenvalue of their Gram matrix.
constexpr double kDependent = 1e-10;

/// [..., width, columns] of reals, first the pairs' first dims, then their partners, as complex [..., pairs, columns].
at::Tensor complex_pairs(const at::Tensor& rows, std::int64_t dim) {
  const std::int64_t pairs = rows.size(dim) / 2;
  return at::complex(rows.narrow(dim, 0, pairs).contiguous(), rows.narrow(dim, pairs, pairs).contiguous());
}
at::Tensor real_pairs(const at::Tensor& z, std::int64_t dim) { return at::cat({at::real(z), at::imag(z)}, dim); }

/// Roots of symmetric matrices [..., n, n].
at::Tensor symmetric_root(const at::Tensor& matrix) {
  const double mean = matrix.diagonal(0, -2, -1).mean().item<double>();
  const auto [values, vectors] = at::linalg_eigh(matrix);
  const at::Tensor roots = (values.clamp_min(0) + kRootDamping * mean).sqrt();
  return at::matmul(vectors * roots.unsqueeze(-2), vectors.transpose(-2, -1));
}

at::Tensor per_kv_head(const at::Tensor& heads, const HeadFields& fields) {
  std::vector<std::int64_t> sizes = heads.sizes().vec();
  sizes[0] = fields.group();
  sizes.insert(sizes.begin(), fields.kv_heads);
  return heads.reshape(sizes);
}

std::vector<double> doubles(const at::Tensor& x) {
  const at::Tensor dense = x.to(at::kCPU, at::kDouble).contiguous();
  return {dense.const_data_ptr<double>(), dense.const_data_ptr<double>() + dense.numel()};
}

/// Fits are made where the moments stand.
HeadWeights weights_on_host(HeadWeights weights) {
  for (at::Tensor* tensor : {&weights.key, &weights.value, &weights.key_bias, &weights.value_bias, &weights.output,
                             &weights.query, &weights.query_bias}) {
    if (tensor->defined()) *tensor = tensor->to(at::kCPU);
  }
  return weights;
}

}  // namespace

MeanKeyFit::MeanKeyFit(HeadFields heads, HeadWeights weights, const MeanKeyMoments& moments, MeanKeyFitOptions options,
                       std::vector<std::int64_t> pairs)
    : heads_(heads), weights_(weights_on_host(std::move(weights))), options_(options) {
  find_roots(moments);
  find_slots(moments, pairs);
  find_metric(moments);
}

void MeanKeyFit::find_roots(const MeanKeyMoments& moments) {
  mean_ = options_.centred ? moments.mean : at::zeros_like(moments.mean);
  covariance_ = options_.centred ? moments.covariance : moments.covariance + at::outer(moments.mean, moments.mean);
  const auto [values, vectors] = at::linalg_eigh(covariance_);
  const double least = kNoVariance * values.max().item<double>();
  const at::Tensor roots = values.clamp_min(0).sqrt();
  root_ = at::matmul(vectors * roots, vectors.t());
  inverse_root_ = at::matmul(vectors * at::where(values > least, 1 / roots, at::zeros_like(roots)), vectors.t());
}

std::int64_t MeanKeyFit::most_latent() const {
  return std::min(2 * heads_.kv_heads * heads_.head_dim, covariance_.size(0));
}

/// The principal components of each pair's keys over KV heads, most valuable first.
void MeanKeyFit::find_slots(const MeanKeyMoments& moments, const std::vector<std::int64_t>& chosen) {
  const std::int64_t pairs = heads_.head_dim / 2;
  keys_ = complex_pairs(weights_.key.view({heads_.kv_heads, heads_.head_dim, -1}), 1);
  const at::Tensor bias =
      weights_.key_bias.defined() ? weights_.key_bias : at::zeros({weights_.key.size(0)}, mean_.options());
  const at::Tensor constant = at::mv(weights_.key, moments.mean) + bias;
  mean_key_ = complex_pairs(constant.view({heads_.kv_heads, heads_.head_dim}), 1);

  weight_ = at::ones({pairs, heads_.kv_heads}, mean_.options());
  if (options_.sensitivity) {
    const at::Tensor diagonal = moments.queries.diagonal(0, 1, 2);  // [heads, head_dim]
    const at::Tensor energy = diagonal.narrow(1, 0, pairs) + diagonal.narrow(1, pairs, pairs);
    const at::Tensor loss = (1 - moments.gain.abs().square()).clamp_min(kLeastLoss);
    const at::Tensor squares = per_kv_head(moments.logit_weight.unsqueeze(1) * loss * energy, heads_).sum(1).t();
    // No slot may be divided by nothing.
    weight_ = squares.clamp_min(squares.max().item<double>() * kNoVariance).clamp_min(1e-300).sqrt();
  }
  const at::Tensor by_pair = keys_.transpose(0, 1);  // [pairs, kv_heads, hidden]
  at::Tensor moment = at::matmul(at::matmul(by_pair, at::complex(covariance_, at::zeros_like(covariance_))),
                                 by_pair.conj().transpose(1, 2));
  // Without a part for the position the slots hold the mean key, too.
  if (!options_.position && options_.centred)
    moment = moment + mean_key_.t().unsqueeze(2) * mean_key_.t().unsqueeze(1).conj();
  moment = moment * weight_.unsqueeze(2) * weight_.unsqueeze(1);
  if (!options_.complex_slots) {
    const at::Tensor real = at::real(moment);
    moment = at::complex(real.contiguous(), at::zeros_like(real));
  }
  const auto [values, vectors] = at::linalg_eigh(moment);  // ascending
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    if (!chosen.empty() && std::find(chosen.begin(), chosen.end(), pair) == chosen.end()) continue;
    for (std::int64_t i = heads_.kv_heads; i-- > 0;) {
      slots_.push_back({pair, values[pair][i].item<double>(), vectors[pair].select(1, i)});
      if (!chosen.empty()) break;
    }
  }
  if (!chosen.empty()) return;
  std::stable_sort(slots_.begin(), slots_.end(), [](const Slot& a, const Slot& b) { return a.energy > b.energy; });
}

void MeanKeyFit::find_metric(const MeanKeyMoments& moments) {
  const std::int64_t width = heads_.head_dim;
  const at::Tensor gain = options_.gain ? moments.gain : at::ones_like(moments.gain);
  const at::Tensor real = at::diag_embed(at::real(gain)), imaginary = at::diag_embed(at::imag(gain));
  gains_ = at::cat({at::cat({real, -imaginary}, 2), at::cat({imaginary, real}, 2)}, 1);
  if (options_.metric == MeanKeyMetric::kNone) {
    key_metric_ = value_metric_ = at::eye(width, mean_.options()).expand({heads_.kv_heads, width, width});
    return;
  }
  const bool output = options_.metric == MeanKeyMetric::kOutput;
  const auto each = [&](const at::Tensor& x) { return x.view({-1, 1, 1}); };
  at::Tensor queries = at::matmul(at::matmul(gains_, moments.queries), gains_.transpose(1, 2));
  const at::Tensor by_head = weights_.output.view({-1, heads_.heads, width}).permute({1, 2, 0});
  at::Tensor outputs = at::matmul(by_head, by_head.transpose(1, 2));
  if (output) {
    queries = queries * each(moments.logit_weight) / static_cast<double>(width);
    outputs = outputs * each(moments.value_weight);
  }
  key_metric_ = symmetric_root(per_kv_head(queries, heads_).sum(1));
  value_metric_ = symmetric_root(per_kv_head(outputs, heads_).sum(1));
}

/// Slots are taken out of the keys.
void MeanKeyFit::leave_over(std::int64_t count) {
  left_ = {};
  left_.slots = count;
  at::Tensor keys = keys_.clone();
  std::vector<at::Tensor> directions;
  for (std::int64_t m = 0; m < count; ++m) {
    const Slot& slot = slots_.at(static_cast<std::size_t>(m));
    const at::Tensor weight = weight_[slot.pair];
    const at::Tensor direction = at::mv(keys_.select(1, slot.pair).t(), slot.mixing.conj() * weight);
    keys.select(1, slot.pair).sub_(at::outer(slot.mixing / weight, direction));
    directions.push_back(direction);
  }
  left_.keys = real_pairs(keys, 1);
  left_.directions = directions.empty() ? at::zeros({0, keys_.size(2)}, keys_.options()) : at::stack(directions);
  const at::Tensor down = real_pairs(left_.directions, 0);
  const at::Tensor variance = (at::matmul(down, covariance_) * down).sum(1).view({2, count}).mean(0);
  left_.scales = at::where(variance > 0, variance.clamp_min(0).sqrt(), at::ones_like(variance));
  left_.down = down / left_.scales.repeat({2}).unsqueeze(1);
  left_.metric_rows = metric_rows();
}

at::Tensor MeanKeyFit::metric_rows() const {
  const at::Tensor values = weights_.value.view({heads_.kv_heads, heads_.head_dim, -1});
  at::Tensor key_part = at::matmul(at::matmul(key_metric_, left_.keys).flatten(0, 1), root_);
  at::Tensor value_part = at::matmul(at::matmul(value_metric_, values).flatten(0, 1), root_);
  if (options_.metric != MeanKeyMetric::kOutput) {
    const auto unit = [](const at::Tensor& x) { return x / x.norm().clamp_min(1e-300); };
    // Against all keys, not those that slots leave over.
    const at::Tensor all = at::matmul(at::matmul(key_metric_, real_pairs(keys_, 1)).flatten(0, 1), root_);
    key_part = key_part / all.norm().clamp_min(1e-300);
    value_part = unit(value_part);
  }
  at::Tensor rows = at::cat({key_part, value_part});
  if (!options_.dual || left_.slots == 0) return rows;
  // What slots hold already is taken out.
  const at::Tensor held = at::matmul(left_.down, root_);
  const auto [left, sizes, right] = at::linalg_svd(held, false);
  const std::int64_t rank = (sizes > kDependent * sizes[0]).sum().item<std::int64_t>();
  const at::Tensor basis = right.narrow(0, 0, rank);
  return rows - at::matmul(at::matmul(rows, basis.t()), basis);
}

void MeanKeyFit::decompose(std::int64_t latent) {
  if (left_.latent.defined() && left_.latent.size(0) >= latent) return;
  const RowProjection parts = project_rows(left_.metric_rows, latent, {});
  left_.latent = at::matmul(parts.right, inverse_root_);
  left_.singular_values = doubles(parts.values);
}

/// For complex factors [heads, n] of n pairs the real rows of x -> factor x_pair: [heads, 2 n, head_dim].
at::Tensor MeanKeyFit::query_rows(const at::Tensor& factors, const std::vector<std::int64_t>& pairs) const {
  const std::int64_t count = std::ssize(pairs), half = heads_.head_dim / 2;
  at::Tensor rows = at::zeros({heads_.heads, 2 * count, heads_.head_dim}, mean_.options());
  const at::Tensor real = at::real(factors), imaginary = at::imag(factors);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t pair = pairs[static_cast<std::size_t>(i)];
    rows.select(1, i).select(1, pair).copy_(real.select(1, i));
    rows.select(1, i).select(1, half + pair).copy_(-imaginary.select(1, i));
    rows.select(1, count + i).select(1, pair).copy_(imaginary.select(1, i));
    rows.select(1, count + i).select(1, half + pair).copy_(real.select(1, i));
  }
  return rows;
}

at::Tensor MeanKeyFit::slot_queries() const {
  std::vector<at::Tensor> factors;
  std::vector<std::int64_t> pairs;
  for (std::int64_t m = 0; m < left_.slots; ++m) {
    const Slot& slot = slots_[static_cast<std::size_t>(m)];
    factors.push_back(slot.mixing.conj() / weight_[slot.pair] * left_.scales[m]);
    pairs.push_back(slot.pair);
  }
  if (pairs.empty()) return at::zeros({heads_.heads, 0, heads_.head_dim}, mean_.options());
  return query_rows(at::stack(factors, 1).repeat_interleave(heads_.group(), 0), pairs);
}

at::Tensor MeanKeyFit::position_queries() const {
  std::vector<std::int64_t> pairs;
  for (std::int64_t pair = 0; pair < heads_.head_dim / 2; ++pair) pairs.push_back(pair);
  return query_rows(mean_key_.conj().repeat_interleave(heads_.group(), 0), pairs);
}

MeanKeyMaps MeanKeyFit::maps(std::int64_t slots, std::int64_t latent) {
  expects(slots <= most_slots() && latent <= most_latent(), "as many slots and latent elements as there are");
  if (left_.slots != slots) leave_over(slots);
  decompose(latent);
  MeanKeyMaps maps;
  for (std::int64_t m = 0; m < slots; ++m) maps.slots.push_back(slots_[static_cast<std::size_t>(m)].pair);
  maps.latent_down = left_.latent.narrow(0, 0, latent);
  maps.slot_down = left_.down;
  maps.singular_values.assign(left_.singular_values.begin(), left_.singular_values.begin() + latent);

  const at::Tensor down = at::cat({maps.latent_down, maps.slot_down});
  const at::Tensor read = options_.dual ? down : maps.latent_down, seen = at::matmul(read, covariance_);
  const at::Tensor values = weights_.value.view({heads_.kv_heads, heads_.head_dim, -1});
  const at::Tensor inverse = at::linalg_pinv(at::matmul(seen, read.t()), kDependent, /*hermitian=*/true);
  const auto up = [&](const at::Tensor& rows) { return at::matmul(at::matmul(rows, seen.t()), inverse); };
  maps.key_up = up(left_.keys);
  maps.value_up = up(values);
  maps.latent_weight = (at::matmul(key_metric_, maps.key_up).square().sum(at::IntArrayRef{0, 1}) +
                        at::matmul(value_metric_, maps.value_up).square().sum(at::IntArrayRef{0, 1}))
                           .narrow(0, 0, latent);

  maps.gains = gains_;
  maps.slot_queries = slot_queries();
  maps.position_queries = position_queries();
  maps.down_bias = -at::mv(down, mean_);
  at::Tensor mean_value = at::mv(weights_.value, mean_);
  if (weights_.value_bias.defined()) mean_value = mean_value + weights_.value_bias;
  at::Tensor constant = mean_value.view({heads_.kv_heads, heads_.head_dim});
  if (!options_.position) {
    // Slots hold whole keys; values rebuilt from the mean of these are too large by a constant.
    at::Tensor offset = at::zeros_like(maps.down_bias);
    for (std::int64_t m = 0; m < slots && weights_.key_bias.defined(); ++m) {
      const Slot& slot = slots_[static_cast<std::size_t>(m)];
      const at::Tensor bias = complex_pairs(weights_.key_bias.view({heads_.kv_heads, heads_.head_dim}), 1);
      const at::Tensor held =
          (bias.select(1, slot.pair) * slot.mixing.conj() * weight_[slot.pair]).sum() / left_.scales[m];
      offset[latent + m] = at::real(held);
      offset[latent + slots + m] = at::imag(held);
    }
    maps.down_bias.narrow(0, latent, 2 * slots).copy_(offset.narrow(0, latent, 2 * slots));
    if (options_.dual) {
      const at::Tensor held = at::mv(maps.slot_down, mean_) + offset.narrow(0, latent, 2 * slots);
      constant = constant - at::matmul(maps.value_up.narrow(2, latent, 2 * slots), held);
    }
  }
  maps.output_bias = at::mv(weights_.output, constant.repeat_interleave(heads_.group(), 0).flatten());
  return maps;
}

}  // namespace mla
