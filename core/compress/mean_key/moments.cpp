#include "core/compress/mean_key/moments.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/attention/attention_weights.h"
#include "core/attention/pieces.h"
#include "core/base/error.h"

namespace mla {
namespace {

/// Importance is scaled to a mean of 1 over so many rows at a time, and as many attention weights are held.
constexpr std::int64_t kChunkRows = 4;

at::Tensor exact_on_host(const at::Tensor& x) { return x.detach().to(at::kCPU, at::kDouble); }

}  // namespace

MeanKeyGathering::MeanKeyGathering(const HeadFields& heads, double scale, const at::Tensor& output,
                                   const at::Tensor& frequencies, std::int64_t attention_rows, bool importance)
    : heads_(heads),
      scale_(scale),
      frequencies_(exact_on_host(frequencies)),
      attention_rows_(attention_rows),
      importance_(importance) {
  const at::Tensor by_head =
      exact_on_host(output).reshape({output.size(0), heads.heads, heads.head_dim}).permute({1, 2, 0});
  grams_ = at::bmm(by_head, by_head.transpose(1, 2));
  const auto like = at::TensorOptions(at::kDouble);
  const std::int64_t hidden = output.size(0), pairs = frequencies.size(0);
  mass_ = at::scalar_tensor(0.0, like);
  sum_ = at::zeros({hidden}, like);
  square_ = at::zeros({hidden, hidden}, like);
  queries_ = at::zeros({heads.heads, heads.head_dim, heads.head_dim}, like);
  gain_cosine_ = at::zeros({heads.heads, pairs}, like);
  gain_sine_ = at::zeros_like(gain_cosine_);
  logit_weight_ = at::zeros({heads.heads}, like);
  value_weight_ = at::zeros_like(logit_weight_);
}

std::vector<Tap> MeanKeyGathering::taps() {
  return {Tap::kAttentionInput, Tap::kQuery, Tap::kValue, Tap::kQueryRotated, Tap::kKeyRotated};
}

void MeanKeyGathering::see(Tap tap, const at::Tensor& tensor) {
  switch (tap) {
    case Tap::kAttentionInput:
      input_ = tensor;
      break;
    case Tap::kQuery:
      query_ = tensor;
      break;
    case Tap::kValue:
      value_ = tensor;
      break;
    case Tap::kQueryRotated:
      rotated_query_ = tensor;
      break;
    case Tap::kKeyRotated:  // the last of them
      rotated_key_ = tensor;
      add_batch();
      break;
    default:
      break;
  }
}

/// rows [tokens, width], weights [tokens].
void MeanKeyGathering::add_input(const at::Tensor& rows, const at::Tensor& weights) {
  const at::Tensor weighed = rows * weights.unsqueeze(1);
  mass_ += weights.sum();
  sum_ += weighed.sum(0);
  square_.addmm_(weighed.t(), rows);
}

void MeanKeyGathering::add_batch() {
  const std::int64_t rows = input_.size(0), length = input_.size(1);
  if (length > 1) {
    const at::Tensor behind =
        exact_on_host(query_.narrow(2, 1, length - 1)).transpose(0, 1).flatten(1, 2);  // [heads, tokens, head_dim]
    queries_ += at::bmm(behind.transpose(1, 2), behind);
    query_count_ += static_cast<double>(behind.size(1));
    if (!importance_) {
      const at::Tensor inputs = exact_on_host(input_.narrow(1, 1, length - 1)).flatten(0, 1);
      add_input(inputs, at::ones({inputs.size(0)}, inputs.options()));
    }
    const std::int64_t wanted = std::min(rows, attention_rows_ - rows_seen_);
    for (std::int64_t first = 0; first < wanted; first += kChunkRows)
      add_attention(first, std::min(kChunkRows, wanted - first));
  }
  rows_seen_ += rows;
  input_ = query_ = value_ = rotated_query_ = rotated_key_ = at::Tensor();
}

void MeanKeyGathering::add_attention(std::int64_t first, std::int64_t count) {
  const auto chunk = [&](const at::Tensor& x) { return x.narrow(0, first, count); };
  const at::Tensor p =
      exact_on_host(attention_weights(chunk(rotated_query_), chunk(rotated_key_), scale_, heads_.window, {}));
  const at::Tensor v = repeat_heads(exact_on_host(chunk(value_)), heads_.group());  // [rows, heads, length, head_dim]
  const at::Tensor o = at::matmul(p, v), mapped = at::matmul(v, grams_);
  // |W_o (v_j - o_i)|^2 by queries and keys.
  at::Tensor change = at::matmul(o, mapped.transpose(2, 3)).mul_(-2);
  change += (mapped * v).sum(-1).unsqueeze(2);
  change += (at::matmul(o, grams_) * o).sum(-1).unsqueeze(3);
  at::Tensor squares = p.square();
  squares.select(3, 0).zero_();
  value_weight_ += squares.sum(at::IntArrayRef{0, 2, 3});
  change *= squares;
  logit_weight_ += change.sum(at::IntArrayRef{0, 2, 3});
  attention_count_ += static_cast<double>(count * (p.size(2) - 1));
  add_gain(p);
  if (!importance_) return;
  const at::Tensor importance = change.sum(at::IntArrayRef{1, 2}).clamp_min(0);  // [rows, length]
  const double mean = importance.mean().item<double>();
  if (mean > 0) add_input(exact_on_host(chunk(input_)).flatten(0, 1), (importance / mean).flatten());
}

/// cos and sin of theta (i - j) are made of those of theta i and theta j.
void MeanKeyGathering::add_gain(const at::Tensor& weights) {
  const at::Tensor p = weights.sum(0);  // [heads, queries, keys]
  const std::int64_t length = p.size(1);
  const at::Tensor angles = at::outer(at::arange(length, p.options()), frequencies_);
  const at::Tensor cosine = angles.cos(), sine = angles.sin();
  const at::Tensor with_cosine = at::matmul(p, cosine), with_sine = at::matmul(p, sine);  // [heads, length, pairs]
  const auto behind_first = [&](const at::Tensor& x) { return x.narrow(1, 1, length - 1).sum(1); };
  gain_cosine_ += behind_first(cosine * with_cosine + sine * with_sine);
  gain_sine_ += behind_first(sine * with_cosine - cosine * with_sine);
}

MeanKeyMoments MeanKeyGathering::result() const {
  if (attention_count_ == 0 || !(mass_.item<double>() > 0)) {
    throw DataError("calibration rows of at least two tokens are needed, and attention that looks behind the first");
  }
  MeanKeyMoments all;
  all.mean = sum_ / mass_;
  all.covariance = square_ / mass_ - at::outer(all.mean, all.mean);
  all.queries = queries_ / query_count_;
  all.gain = at::complex(gain_cosine_ / attention_count_, gain_sine_ / attention_count_);
  all.logit_weight = logit_weight_ / attention_count_;
  all.value_weight = value_weight_ / attention_count_;
  return all;
}

}  // namespace mla
