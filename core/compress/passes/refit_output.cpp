#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"
#include "core/compress/refit/output_refit.h"

namespace mla {
namespace {

/// Output projections fitted anew, as core/compress/refit/output_refit.h says.
class RefitOutput final : public Pass {
 public:
  struct Options {
    double damping = 1e-3;
    std::int64_t skip_positions = 1;
    std::int64_t rows = 0;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("damping", self.damping, "share of the features' mean energy that is added to each of them");
      visit("skip_positions", self.skip_positions,
            "first tokens of each row left out: they see little, and the first one is like no other");
      visit("rows", self.rows, "calibration rows that are fitted on, the first ones; 0: all");
    }
    void validate(const std::string& path) const {
      if (!(damping > 0)) throw ConfigError(cat(path, ".damping = ", damping, ": must be more than 0"));
      if (skip_positions < 0)
        throw ConfigError(cat(path, ".skip_positions = ", skip_positions, ": must not be negative"));
      if (rows < 0) throw ConfigError(cat(path, ".rows = ", rows, ": must not be negative"));
    }
  };

  RefitOutput(Options options, const std::string& path) : options_(options), path_(path) {}

  bool reads_rows() const override { return true; }
  bool reads_source() const override { return true; }
  ModelSpec plan(const ModelSpec& spec) const override { return spec; }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const Decoder& source = *inputs.source;
    if (source.spec().layer_count() != decoder.spec().layer_count()) {
      throw ConfigError(cat(path_, ": the model has ", decoder.spec().layer_count(), " layers and its source ",
                            source.spec().layer_count(), "; layers are fitted one to one"));
    }
    OutputRefit refit(decoder, source, first_rows(*inputs.rows, options_.rows),
                      {options_.damping, options_.skip_positions});
    return for_each_layer(decoder, inputs, [&](std::int64_t, LayerReport&) { refit.next(); });
  }

 private:
  Options options_;
  std::string path_;
};

const Registration<Pass, RefitOutput> kRefitOutput(
    "refit_output", "output projections fitted to the source's attention outputs, in closed form");

}  // namespace
}  // namespace mla
