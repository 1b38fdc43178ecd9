#include "experiments/cache/codec_round_trip.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"

namespace mla {

std::unique_ptr<Codec> make_codec(const Json& config, const StreamSample* sample, const at::Tensor& x) {
  const auto codec = Registry<Codec>::instance().make(config, "codec");
  StreamSample itself;
  if (!sample) {
    const at::Tensor rows = codec->joins_heads() && x.dim() > 2 ? x.transpose(-3, -2).flatten(-2) : x;
    itself.values = rows.to(at::kFloat).reshape({-1, rows.size(-1)});
    sample = &itself;
  }
  return codec->for_stream("tensor", sample);
}

TensorError codec_error(const RoundTrip& trip, const at::Tensor& x) {
  const bool half = trip.packed.rounding != HalfRounding::kNone;
  return tensor_error(half ? x.to(at::kHalf).to(at::kFloat) : x, trip.decoded);
}

Json describe(const RoundTrip& trip, const TensorError& error, int bits, std::int64_t shared_bytes) {
  Json report = {{"shape", trip.decoded.sizes().vec()},
                 {"nominal_bits", bits},
                 {"effective_bits", trip.effective_bits()},
                 {"bytes", trip.bytes},
                 {"predicted_bytes", trip.predicted_bytes},
                 {"shared_bytes", shared_bytes},
                 {"error", write_fields(error)}};
  if (trip.packed.sparse.end.defined()) {
    const std::int64_t apart = trip.packed.sparse.entries() + (trip.first.defined() ? trip.first.numel() : 0);
    report["outlier_fraction"] = static_cast<double>(apart) / static_cast<double>(trip.elements);
  }
  if (!trip.report.error_trace.empty()) {
    report["iterations"] = trip.report.error_trace.size();
    report["error_trace"] = trip.report.error_trace;
  }
  return report;
}

Json to_json_numbers(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kDouble).contiguous();
  const double* data = values.const_data_ptr<double>();
  return std::vector<double>(data, data + values.numel());
}

void expect_sample(const StreamSample& sample, const std::string& where) {
  if (sample.values.dim() != 2)
    throw DataError(cat(where, ": expected a sample of [tokens, channels], found ", sample.values.sizes()));
  if (sample.fisher.defined() && sample.fisher.sizes() != sample.values.sizes()) {
    throw DataError(cat(where, ": the weights, ", sample.fisher.sizes(), ", are not of the shape of the sample, ",
                        sample.values.sizes()));
  }
}

}  // namespace mla
