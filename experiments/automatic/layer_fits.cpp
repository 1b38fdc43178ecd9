#include "experiments/automatic/layer_fits.h"

#include <algorithm>

#include "core/base/error.h"

namespace mla {
namespace {

/// Steps beyond which little is gained, and below which it is not worth to begin.
constexpr std::int64_t kMostSteps = 300, kFewestSteps = 40;
/// Operations of all fits together: some twenty minutes of one core.
constexpr double kMostOperations = 5e13;
/// The first one fits models of all sizes; small ones mostly gain by larger ones, which are tried where that is cheap.
constexpr double kRates[] = {1e-3, 3e-3};

/// One step of all layers: forward, and twice as much back.
double operations_of_step(const ModelSpec& spec, std::int64_t length) {
  double of_token = 2 * static_cast<double>(count_parameters(spec).attention);
  for (const LayerSpec& layer : spec.layers)
    of_token += layer.attention->expanded_operations() * static_cast<double>(length) / 2;
  return 3 * of_token * static_cast<double>(length * LayerFits::kBatchRows);
}

}  // namespace

Json LayerFits::passes(double rate) const {
  // What is judged by is held out already.
  return Json::array(
      {{{"name", "fit_layers"}, {"steps", steps}, {"batch_rows", kBatchRows}, {"learning_rate", rate}, {"held_out", 0}},
       {{"name", "refit_output"}}});
}

LayerFits plan_layer_fits(const ModelSpec& spec, std::int64_t length, std::optional<std::int64_t> stated) {
  const double operations = operations_of_step(spec, length);
  const auto affordable = static_cast<std::int64_t>(kMostOperations / operations);
  LayerFits fits;
  fits.steps = stated.value_or(std::min(kMostSteps, affordable));
  if (fits.steps == 0 && stated) {
    fits.why = "no steps were wanted";
    return fits;
  }
  if (!stated && fits.steps < kFewestSteps) {
    fits.why = cat("only ", affordable,
                   " steps take less than some twenty minutes of a core; --fit-steps says how many ", "it shall be");
    fits.steps = 0;
    return fits;
  }
  fits.rates = {kRates[0]};
  if (static_cast<std::int64_t>(std::size(kRates)) * fits.steps <= affordable)
    fits.rates.assign(std::begin(kRates), std::end(kRates));
  return fits;
}

}  // namespace mla
