#include "experiments/automatic/trial.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/compress/calibration/held_out.h"
#include "core/compress/pass.h"
#include "core/evaluate/cached_perplexity.h"
#include "experiments/automatic/methods.h"
#include "experiments/plan/pass_list.h"

namespace mla {
namespace {

/// Passes change attention alone: everything else is the source's own.
Decoder with_own_attention(const Decoder& source) {
  Decoder copy(source.spec());
  copy.compute_dtype = source.compute_dtype;
  copy.products = source.products;
  for (std::size_t i = 0; i < source.layers.size(); ++i) {
    const DecoderLayer& from = source.layers[i];
    copy.layers[i] = {from.attention->clone(), from.attention_norm, from.mlp_norm, from.gate, from.up, from.down,
                      from.attention_end_norm, from.mlp_end_norm};
  }
  copy.embedding = source.embedding;
  copy.final_norm = source.final_norm;
  copy.output = source.output;
  return copy;
}

}  // namespace

TriedModel try_passes(const Json& compress, const Decoder& start, const TrialInputs& trial) {
  TriedModel model{with_own_attention(start), {}};
  const auto stop = [](std::int64_t) { check_interrupt(); };
  for (const PlannedPass& planned : plan_passes(compress, "compress", start.spec())) {
    const Requirements requirements = planned.pass->requirements();
    Statistics statistics;
    if (!requirements.empty()) statistics = calibrate(model.decoder, trial.rows, requirements, {}, stop);
    PassInputs inputs;
    inputs.statistics = &statistics;
    inputs.rows = &trial.rows;
    inputs.source = &trial.source;
    inputs.arithmetic = trial.arithmetic;
    inputs.weights = trial.weights;
    inputs.progress = [&](std::int64_t) {
      check_interrupt();
      if (trial.after_layer) trial.after_layer();
    };
    model.reports.push_back(run_pass(planned.name, *planned.pass, model.decoder, inputs));
  }
  return model;
}

double nll_through_cache(const Decoder& decoder, const TokenRowList& rows, std::int64_t bits, std::int64_t step) {
  const CacheConfig config = codes_of(bits);
  if (config.is_plain()) return mean_nll(decoder, rows);
  const CacheFormat format = cache_format(config, "cache");
  double sum = 0;
  std::int64_t count = 0;
  for (const at::Tensor& ids : calibration_batches(rows, decoder.spec().vocabulary, {})) {
    std::vector<std::int64_t> calls;
    for (std::int64_t left = ids.size(1) - 1; left > 0; left -= step) calls.push_back(std::min(left, step));
    if (calls.empty()) continue;
    check_interrupt();
    DecoderCache cache = decoder.make_cache(ids.size(0), format);
    const at::Tensor nll = cached_nll(decoder, ids, cache, calls);
    sum += nll.sum().item<double>();
    count += nll.numel();
  }
  expects(count > 0, "held-out rows have tokens to predict");
  const double mean = sum / static_cast<double>(count);
  return std::isfinite(mean) ? mean : std::numeric_limits<double>::infinity();
}

}  // namespace mla
