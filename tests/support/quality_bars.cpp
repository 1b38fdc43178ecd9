#include "tests/support/quality_bars.h"

#include <ATen/ATen.h>

#include "core/evaluate/perplexity.h"
#include "tests/support/shared_data.h"

namespace mla::test {
namespace {

TokenRowList to_rows(const at::Tensor& ids, const at::Tensor& lengths) {
  TokenRowList rows;
  const at::Tensor dense = ids.to(at::kInt).contiguous();
  for (std::int64_t i = 0; i < dense.size(0); ++i) {
    const std::int32_t* begin = dense.const_data_ptr<std::int32_t>() + i * dense.size(1);
    rows.emplace_back(begin, begin + (lengths.defined() ? lengths[i].item<std::int64_t>() : dense.size(1)));
  }
  return rows;
}

}  // namespace

QualityBars::QualityBars(const std::string& name)
    : model(name),
      source(load_checkpoint(shared_folder() / "data/weights" /
                             (name == "stories260K" ? "stories260K/stories260K.bin" : name))) {
  const auto folder = shared_folder() / kQualityFolder;
  const WeightMap data = read_safetensors(folder / (name + ".safetensors"));
  evaluation = to_rows(data.at("eval_ids"), data.at("eval_len"));
  all_calibration = to_rows(data.at("calib_ids"), {});
  const Json bars = read_json(folder / "bars.json");
  for (const Json& bar : bars["results"]) {
    if (bar["model"] == name && bar["stage"] == "zero-shot") results.push_back(bar);
  }
}

double QualityBars::perplexity(const Decoder& decoder) const {
  PerplexityOptions options;
  options.context = 256;
  return mla::perplexity(decoder, evaluation, options).perplexity;
}

TokenRowList QualityBars::calibration(std::size_t count) const {
  return {all_calibration.begin(), all_calibration.begin() + static_cast<std::ptrdiff_t>(count)};
}

}  // namespace mla::test
