#include <ATen/ATen.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>

#include "core/attention/one_bit_weights.h"
#include "core/base/registry.h"
#include "core/compress/calibration/layer_inputs.h"
#include "core/compress/calibration/map_inputs.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/map_choice.h"
#include "core/compress/pass.h"
#include "core/text/regular_expression.h"

namespace mla {
namespace {

/// Weights of about one bit (BiLLM, arXiv 2402.04291): of each block of columns the salient ones are binarised twice,
/// the other elements once, small and large ones apart; later columns make up for what earlier ones lost, as their
/// inputs on calibration data say. Layers in order, each on what the ones before, binarised, let through. Defaults are
/// those of the authors' code as its README runs it; the paper's are said beside them. Biases and norms stay, and so
/// does what is held otherwise already. Comes after conversions and training, which need dense matrices.
class Billm final : public Pass {
 public:
  struct Options {
    std::int64_t block = 128;
    Saliency metric = Saliency::kHessian;
    SaliencyDiagonal diagonal = SaliencyDiagonal::kCholesky;
    SearchedMatrix search = SearchedMatrix::kSaliency;
    BreakPoints break_points = BreakPoints::kPercentiles;
    bool centred = true;
    std::int64_t most_salient = 49;
    bool compensate = true;
    double damping = 0.01;
    CodecDtype scales = CodecDtype::kFloat16;
    MeasuredInputs inputs = MeasuredInputs::kConverted;
    std::vector<ChosenMaps> maps = {ChosenMaps::kAttention, ChosenMaps::kFeedForward};
    std::string skip;

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("block", self.block, "columns that share scales in each row, a multiple of 8; the last ones may be fewer");
      visit("metric", self.metric, "what makes columns salient: hessian (w^2 / d^2) | magnitude (|w|)");
      visit("diagonal", self.diagonal,
            "d: cholesky (of the inverse Hessian's factor, the authors' code) | inverse (of itself, the paper)");
      visit("search", self.search,
            "whose error salient columns and break are chosen by: saliency (the authors' code) | weights (the paper)");
      visit("break_points", self.break_points,
            "81 candidates: percentiles from 10 to 90 (the authors' code) | fractions of the largest (the paper)");
      visit("centred", self.centred,
            "groups are binarised about their mean (the authors' code), or about 0 (the paper)");
      visit("most_salient", self.most_salient, "columns of a block that are tried as salient; 0: none are");
      visit("compensate", self.compensate, "later columns make up for the error of earlier ones, as in GPTQ");
      visit("damping", self.damping, "share of the Hessian's mean diagonal that is added to it");
      visit("scales", self.scales, "type of scales and means: float16 | float32");
      visit("inputs", self.inputs, kMeasuredInputsHelp);
      visit("maps", self.maps, "which linear maps: attention | feed_forward | output");
      visit("skip", self.skip, "a regular expression: linear maps in whose names it is found stay dense; empty: none");
    }
    void validate(const std::string& path) const {
      if (block < 8 || block % 8 != 0)
        throw ConfigError(cat(path, ".block = ", block, ": expected a multiple of 8, so that it begins with a byte"));
      if (most_salient < 0)
        throw ConfigError(cat(path, ".most_salient = ", most_salient, ": must not be negative; 0: no salient columns"));
      if (!(damping > 0)) throw ConfigError(cat(path, ".damping = ", damping, ": must be more than 0"));
      if (std::find(maps.begin(), maps.end(), ChosenMaps::kEmbedding) != maps.end()) {
        throw ConfigError(cat(path, ".maps: embedding: its rows are looked up and nothing is multiplied, so that no ",
                              "column counts more than another; the pass quantize_weights holds it in few bits"));
      }
    }
  };

  Billm(Options options, const std::string& path) : options_(std::move(options)), path_(path) {
    if (!options_.skip.empty()) skip_.emplace(options_.skip, path + ".skip");
  }

  bool reads_rows() const override { return options_.compensate || options_.metric == Saliency::kHessian; }

  ModelSpec plan(const ModelSpec& spec) const override {
    ModelSpec planned = spec;
    bool any = false;
    for (const ModelParameter& parameter : model_parameters(spec)) {
      if (!is_chosen(parameter, options_.maps) || is_skipped(parameter.map_name())) continue;
      set_storage(planned, parameter.map_name(), one_bit_storage(settings()));
      any = true;
    }
    if (!any) refuse_no_map(spec, path_, brief(write_fields(options_).at("maps")));
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const c10::InferenceMode off(false);  // adapters may be trained beside the new weights
    const std::set<std::string> all = maps_to_change(decoder.spec());
    std::optional<LayerWalk> walk;
    if (reads_rows()) walk.emplace(decoder, *inputs.rows, CalibrationOptions{});
    std::vector<LayerReport> reports = for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport&) {
      const std::set<std::string> own = those_of_layer(all, layer);
      const Moments seen = walk ? input_moments(decoder, *walk, own) : Moments{};
      if (walk && options_.inputs == MeasuredInputs::kFound) walk->advance();
      binarise(decoder, own, seen);
      if (walk && options_.inputs == MeasuredInputs::kConverted) walk->advance();
    });
    if (all.contains(kOutputMap)) binarise_output(decoder, walk);
    return reports;
  }

 private:
  using Moments = std::map<std::string, at::Tensor>;
  inline static const std::string kOutputMap = "lm_head";

  bool is_skipped(const std::string& map) const { return skip_ && skip_->matches(map); }

  OneBitOptions settings() const {
    return {options_.block,        options_.metric,
            options_.diagonal,     options_.search,
            options_.break_points, options_.most_salient,
            options_.centred,      options_.compensate,
            options_.damping,      options_.scales == CodecDtype::kFloat16 ? at::kHalf : at::kFloat};
  }

  std::set<std::string> maps_to_change(const ModelSpec& spec) const {
    const StorageMap planned = model_storage(plan(spec)), now = model_storage(spec);
    std::set<std::string> names;
    for (const auto& [name, storage] : planned) {
      if (!now.contains(name)) names.insert(name);
    }
    return names;
  }

  static std::set<std::string> those_of_layer(const std::set<std::string>& all, std::int64_t layer) {
    const std::string prefix = cat("model.layers.", layer, ".");
    std::set<std::string> own;
    std::copy_if(all.begin(), all.end(), std::inserter(own, own.end()),
                 [&](const std::string& name) { return name.starts_with(prefix); });
    return own;
  }

  /// A map whose inputs were not seen is binarised as if all its columns counted alike.
  void binarise(Decoder& decoder, const std::set<std::string>& names, const Moments& seen) const {
    decoder.replace_maps([&](const std::string& name, Linear& map) {
      if (!names.contains(name)) return;
      const auto found = seen.find(name);
      try {
        map = hold_as_one_bit(map, found == seen.end() ? at::Tensor() : found->second, settings());
      } catch (const DataError& error) {
        throw DataError(cat(path_, ": ", name, ": ", error.what()));
      }
    });
  }

  void binarise_output(Decoder& decoder, const std::optional<LayerWalk>& walk) const {
    Moments seen;
    if (walk) {
      std::vector<at::Tensor> states;
      for (const at::Tensor& last : walk->states()) states.push_back(decoder.final_states(last).flatten(0, 1));
      seen[kOutputMap] = input_moment(at::cat(states));
    }
    binarise(decoder, {kOutputMap}, seen);
  }

  Options options_;
  std::string path_;
  std::optional<RegularExpression> skip_;
};

const Registration<Pass, Billm> kBillm("billm", "weights of about one bit, with salient columns (arXiv 2402.04291)");

}  // namespace
}  // namespace mla
