#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/registry.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"
#include "core/compress/refit/layer_fit.h"

namespace mla {
namespace {

/// The attention of each layer trained by itself, as core/compress/refit/layer_fit.h says, whatever pass has made it.
class FitLayers final : public Pass {
 public:
  using Options = LayerFitOptions;
  FitLayers(Options options, const std::string& path) : options_(options), path_(path) {}

  bool reads_rows() const override { return true; }
  bool reads_source() const override { return true; }
  std::int64_t trained_rows() const override { return options_.trained_rows(); }

  ModelSpec plan(const ModelSpec& spec) const override {
    for (const ModelParameter& parameter : model_parameters(spec)) {
      if (parameter.group != ParameterGroup::kAttention || !parameter.storage || parameter.storage->is_factored())
        continue;
      throw ConfigError(cat(path_, ": ", parameter.name, " is held as ", parameter.storage->description(),
                            " and so not fitted: list fit_layers before quantize_weights"));
    }
    return spec;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const Decoder& source = *inputs.source;
    if (source.spec().layer_count() != decoder.spec().layer_count()) {
      throw ConfigError(cat(path_, ": the model has ", decoder.spec().layer_count(), " layers and its source ",
                            source.spec().layer_count(), "; layers are fitted one to one"));
    }
    LayerFit fit(decoder, source, *inputs.rows, options_);
    std::vector<LayerReport> reports =
        for_each_layer(decoder, inputs, [&](std::int64_t, LayerReport& report) { report.fit = fit.next(); });
    log_info(summary(reports));
    return reports;
  }

 private:
  /// Means of the layers that were fitted.
  std::string summary(const std::vector<LayerReport>& reports) const {
    double before = 0, after = 0;
    std::int64_t fitted = 0, kept = 0, tokens = 0, unique = 0, rows = 0;
    std::string judged_on;
    for (const LayerReport& report : reports) {
      if (report.fit->tokens == 0) continue;
      ++fitted;
      kept += report.fit->kept ? 1 : 0;
      before += report.fit->before;
      after += report.fit->after;
      tokens = report.fit->tokens;
      unique = report.fit->unique_tokens;
      rows = report.fit->rows;
      judged_on = report.fit->judged_on == "held_out" ? "held-out rows" : "rows, those fitted";
    }
    if (fitted == 0) return cat(path_, ": no layer differs from the source's, none is fitted");
    const auto count = static_cast<double>(fitted);
    return cat(path_, ": ", fitted, " of ", reports.size(), " layers fitted on ", tokens, " tokens each, ", unique,
               " of them different; mean relative squared error of outputs ", before / count, " before, ",
               after / count, " after, on ", rows, " ", judged_on, "; ", kept, " became better and were taken");
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, FitLayers> kFitLayers(
    "fit_layers", "each layer's attention trained by itself to give the source's attention output");

}  // namespace
}  // namespace mla
