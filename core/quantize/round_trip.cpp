#include "core/quantize/round_trip.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/quantize/limits.h"

namespace mla {
namespace {

/// [batch, heads, tokens, width] or [heads, tokens, width] with heads side by side.
at::Tensor join_heads(const at::Tensor& x) {
  if (x.dim() < 3) return x;
  return x.transpose(-3, -2).flatten(-2).contiguous();
}

at::Tensor part_heads(const at::Tensor& x, at::IntArrayRef shape) {
  if (shape.size() < 3) return x;
  std::vector<std::int64_t> parted(shape.begin(), shape.end());
  std::swap(parted[parted.size() - 3], parted[parted.size() - 2]);
  return x.view(parted).transpose(-3, -2).contiguous();
}

}  // namespace

TensorError tensor_error(const at::Tensor& before, const at::Tensor& after) {
  const at::Tensor x = before.to(at::kDouble), y = after.to(at::kDouble), error = y - x;
  TensorError result;
  result.mse = error.square().mean().item<double>();
  result.mae = error.abs().mean().item<double>();
  result.max_abs = error.abs().max().item<double>();
  const double size = x.norm().item<double>(), distance = error.norm().item<double>();
  result.rel_fro = distance == 0 ? 0 : distance / size;
  result.dequant_sum = y.sum().item<double>();
  result.dequant_sumsq = y.square().sum().item<double>();
  result.finite = y.isfinite().all().item<bool>();
  return result;
}

RoundTrip round_trip(const Codec& codec, const at::Tensor& x) {
  const at::Tensor joined = codec.joins_heads() ? join_heads(x) : x;
  if (joined.dim() < 2) throw ConfigError(cat("a tensor of ", x.dim(), " dimensions; expected [..., tokens, width]"));
  const std::int64_t tokens = joined.size(-2), first = std::min(codec.first_tokens(), tokens);
  RoundTrip trip;
  trip.elements = x.numel();
  const at::Tensor rest = joined.narrow(-2, first, tokens - first);
  trip.packed = codec.encode(rest, &trip.report);
  if (!rest.is_cpu()) expect_sound(trip.packed, "codec");
  trip.packed.sparse = compacted(trip.packed.sparse);
  trip.bytes = trip.packed.bytes();
  trip.predicted_bytes = codec.predicted_bytes(rest.sizes(), trip.packed.sparse.entries());
  at::Tensor decoded = decode(trip.packed);
  if (first > 0) {
    const at::Tensor kept = joined.narrow(-2, 0, first);
    trip.first = kept.to(at::kHalf).contiguous();
    expect_encodable(kept, trip.first.to(at::kFloat), "first tokens");
    trip.bytes += static_cast<std::int64_t>(trip.first.nbytes());
    trip.predicted_bytes += 2 * trip.first.numel();
    decoded = at::cat({trip.first.to(at::kFloat), decoded}, -2);
  }
  expects(trip.bytes == trip.predicted_bytes, "the codec's buffers hold another number of bytes than predicted");
  trip.decoded = codec.joins_heads() ? part_heads(decoded, x.sizes()) : decoded;
  return trip;
}

}  // namespace mla
