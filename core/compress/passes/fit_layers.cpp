#include <cmath>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/registry.h"
#include "core/compress/latent_steps.h"
#include "core/compress/layer_fit.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// The attention of each layer trained by itself, as core/compress/layer_fit.h says, whatever pass has made it.
class FitLayers final : public Pass {
 public:
  struct Options {
    std::int64_t steps = 160, batch_rows = 8;
    double learning_rate = 1e-3;
    FitInputs inputs = FitInputs::kSource;
    std::int64_t skip_positions = 1;
    double held_out = 0.125;
    std::int64_t rows = 0;
    std::uint64_t seed = 42;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("steps", self.steps, "updates of each layer's attention");
      visit("batch_rows", self.batch_rows, "calibration rows of an update");
      visit("learning_rate", self.learning_rate, "peak, after a short warm-up; half a cosine leads to 0");
      visit("inputs", self.inputs,
            "what a layer is given: source (what the source's is) | converted (what the layers before let through)");
      visit("skip_positions", self.skip_positions,
            "first tokens of each row left out: they see little, and the first one is like no other");
      visit("held_out", self.held_out,
            "share of the rows by which a layer is judged, and not fitted: it is kept as it was where that is better; "
            "0: judged by the rows fitted");
      visit("rows", self.rows, "calibration rows that are read, the first ones; 0: all");
      visit("seed", self.seed, "of the order of rows");
    }
    void validate(const std::string& path) const {
      check_at_least_one(path + ".steps", steps);
      check_at_least_one(path + ".batch_rows", batch_rows);
      if (!(std::isfinite(learning_rate) && learning_rate > 0))
        throw ConfigError(cat(path, ".learning_rate = ", learning_rate, ": must be more than 0"));
      if (skip_positions < 0)
        throw ConfigError(cat(path, ".skip_positions = ", skip_positions, ": must not be negative"));
      if (!(held_out >= 0 && held_out < 1))
        throw ConfigError(cat(path, ".held_out = ", held_out, ": must be from 0 to less than 1"));
      if (rows < 0) throw ConfigError(cat(path, ".rows = ", rows, ": must not be negative"));
    }
  };

  FitLayers(Options options, const std::string& path) : options_(options), path_(path) {}

  bool reads_rows() const override { return true; }
  bool reads_source() const override { return true; }

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
    LayerFit fit(decoder, source, first_rows(*inputs.rows, options_.rows),
                 {options_.steps, options_.batch_rows, options_.learning_rate, options_.inputs, options_.skip_positions,
                  options_.held_out, options_.seed});
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
