#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/base/automatic.h"
#include "core/base/byte_size.h"
#include "core/base/checks.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/base/registry.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/mean_key/choice.h"
#include "core/compress/mean_key/layer.h"
#include "core/compress/mean_key/score_fit.h"
#include "core/compress/mean_key/spread.h"
#include "core/compress/part_times.h"
#include "core/compress/pass.h"
#include "core/compress/refit/layer_fit.h"
#include "core/compress/refit/output_refit.h"

namespace mla {
namespace {

enum class MklaLayout { kDual, kStd, kPlain };
std::vector<std::pair<std::string, MklaLayout>> enum_names(MklaLayout) {
  return {{"dual", MklaLayout::kDual}, {"std", MklaLayout::kStd}, {"plain", MklaLayout::kPlain}};
}

enum class MklaBudgets { kUniform, kMeasured };
std::vector<std::pair<std::string, MklaBudgets>> enum_names(MklaBudgets) {
  return {{"uniform", MklaBudgets::kUniform}, {"measured", MklaBudgets::kMeasured}};
}

/// Mean-key latent attention, in closed form: each layer caches one vector for all heads. Some of its elements, slots,
/// are what heads' rotated keys have in common, found by how much a lost rotation would change the layer's output; the
/// rest rebuilds values, and keys as they are before rotation, whose queries are multiplied with the mean rotation
/// lost. The mean key is a function of the position and is not cached. Everything is measured on the model as the pass
/// finds it.
class Mkla final : public Pass {
 public:
  struct Options {
    PerLayer cached = 64;
    MklaLayout layout = MklaLayout::kDual;
    bool position = true;
    PerLayerOrAuto pairs;
    MklaBudgets budgets = MklaBudgets::kUniform;
    std::vector<std::int64_t> widths;
    std::optional<LayerFitOptions> fit;
    std::optional<ScoreFitOptions> scores;
    bool spread = false, refit = true;
    std::int64_t refit_rows = 0, attention_rows = 32, error_rows = 12;
    bool servable = false;
    bool token_importance = true, centred = true, complex_slots = true, sensitivity = true, gain = true;
    MeanKeyMetric metric = MeanKeyMetric::kOutput;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("cached", self.cached, "values cached per token and layer: one number, or a list by layer");
      visit("layout", self.layout,
            "dual (rotated slots are latent, too) | std (slots are rotated keys alone) | plain (std without position)");
      visit("position", self.position, "the mean key is a function of the position; plain: never");
      visit("pairs", self.pairs,
            "rotated slots, two values each: auto (the least error of the layer's output), one number, or by layer");
      visit("budgets", self.budgets,
            "uniform | measured: layers share the values stated, all together, by the errors of their outputs");
      visit("widths", self.widths, "measured: values that a layer may have; none named: 1/3 to 16/9 of the mean");
      visit("fit", self.fit,
            "layers are then trained as fit_layers does, whose options these are; absent: they are not");
      visit("scores", self.scores,
            "queries are fitted to the source's logits before that, by these options; absent: they are not");
      visit("spread", self.spread,
            "elements of the latent are weighed by what their errors do, and mixed by an orthogonal matrix, so that "
            "codes of few bits lose less");
      visit("refit", self.refit, "output projections are then fitted as refit_output does");
      visit("refit_rows", self.refit_rows, "calibration rows that they are fitted on, the first ones; 0: all");
      visit("attention_rows", self.attention_rows, "rows, the first ones, on which attention weights are measured");
      visit("error_rows", self.error_rows, "rows, the first ones, on which errors of layers are measured");
      visit("servable", self.servable,
            "plain layers as other engines hold them: one comb of frequencies for all layers, and no biases");
      visit("token_importance", self.token_importance, "tokens are weighed by what errors of their logits would do");
      visit("centred", self.centred, "the latent holds differences from the mean; without, there is no position part");
      visit("complex_slots", self.complex_slots, "heads are mixed by complex numbers; false: by real ones");
      visit("sensitivity", self.sensitivity, "slots by what a lost rotation does; false: by keys' energy alone");
      visit("gain", self.gain, "queries are multiplied with the mean of lost rotations");
      visit("metric", self.metric, "errors of keys against values: output | query (moments, equal norms) | none");
    }
    void validate(const std::string& path) const {
      check_at_least_one(path + ".attention_rows", attention_rows);
      check_at_least_one(path + ".error_rows", error_rows);
      if (refit_rows < 0) throw ConfigError(cat(path, ".refit_rows = ", refit_rows, ": must not be negative"));
      if (fit) fit->validate(path + ".fit");
      if (scores) scores->validate(path + ".scores");
      for (const std::int64_t width : widths) check_at_least_one(path + ".widths", width);
      if (!widths.empty() && budgets == MklaBudgets::kUniform)
        throw ConfigError(cat(path, ".widths: layers have others than `cached` with budgets = measured alone"));
      if (!centred && has_position() && !servable)
        throw ConfigError(cat(path, ".centred = false: the position part holds the mean key; set position = false"));
      if (servable && layout != MklaLayout::kPlain)
        throw ConfigError(cat(path, ".servable: other engines hold layout = plain alone"));
      if (servable && scores)
        throw ConfigError(cat(path, ".scores: servable layers have no maps of queries to fit; leave one of them out"));
      if (servable && budgets != MklaBudgets::kUniform)
        throw ConfigError(cat(path, ".servable: other engines want all layers alike; leave out budgets"));
    }
    bool has_position() const { return position && layout != MklaLayout::kPlain; }
  };

  Mkla(Options options, const std::string& path) : options_(std::move(options)), path_(path) {}

  bool reads_rows() const override { return true; }
  bool reads_source() const override { return options_.refit || options_.fit || options_.scores; }
  std::int64_t trained_rows() const override { return options_.fit ? options_.fit->trained_rows() : 0; }
  bool measures_shapes() const override { return options_.pairs.automatic() || shares_budget(); }

  ModelSpec plan(const ModelSpec& spec) const override {
    options_.cached.check_length(path_ + ".cached", spec.layers.size());
    if (!options_.pairs.automatic()) options_.pairs.given().check_length(path_ + ".pairs", spec.layers.size());
    ModelSpec planned = spec;
    for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
      const HeadFields heads = convertible_heads(spec, layer);
      const std::int64_t cached = options_.cached.at(index(layer));
      const Range range = slot_range(heads, spec.hidden, cached);
      if (range.most < range.least || cached < 1)
        throw ConfigError(cat(options_.cached.describe(path_ + ".cached", index(layer)), ": must be from 1 to ",
                              most_cached(heads, spec.hidden)));
      MeanKeyShape shape = empty_shape();
      std::int64_t slots = range.least;
      if (!options_.pairs.automatic()) {
        slots = options_.pairs.given().at(index(layer));
        if (slots < range.least || slots > range.most)
          throw ConfigError(cat(options_.pairs.given().describe(path_ + ".pairs", index(layer)), ": must be from ",
                                range.least, " to ", range.most, " with ", cached, " cached values in layer ", layer));
      }
      shape.latent = cached - 2 * slots;
      shape.slots = comb(slots, heads);
      planned.layers[index(layer)].attention = mean_key_spec(heads, shape);
    }
    check_spec(planned, cat(path_, ": the model's layers"));
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const at::NoGradGuard off;
    if (reads_source() && inputs.source->spec().layer_count() != decoder.spec().layer_count())
      throw ConfigError(cat(path_,
                            options_.refit ? ".refit"
                            : options_.fit ? ".fit"
                                           : ".scores",
                            ": the model has ", decoder.spec().layer_count(), " layers and its source ",
                            inputs.source->spec().layer_count(), "; layers are fitted one to one"));
    PartTimes times;
    std::vector<Measured> measured = measure(decoder, inputs, times);
    const std::vector<MeanKeyChoice> choices = chosen(measured);
    std::optional<ScoreFit> scores;
    if (options_.scores) scores.emplace(decoder, *inputs.source, *inputs.rows, *options_.scores);
    std::optional<LayerFit> fit;
    if (options_.fit) fit.emplace(decoder, *inputs.source, *inputs.rows, *options_.fit);
    std::optional<OutputRefit> refit;
    std::vector<LayerReport> reports = for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      {
        const PartTimes::Running running(times, "maps");
        convert(decoder, layer, measured[index(layer)].moments, choices[index(layer)], inputs, report);
      }
      if (scores) {
        const PartTimes::Running running(times, "scores");
        scores->next();
      }
      if (fit) {
        const PartTimes::Running running(times, "fit");
        report.fit = fit->next();
      }
      if (!options_.refit) return;
      const PartTimes::Running running(times, "refit");
      if (!refit)
        refit.emplace(decoder, *inputs.source, first_rows(*inputs.rows, options_.refit_rows), OutputRefitOptions{});
      refit->next();
    });
    log_info(cat(path_, ": ", times.text(), "; peak memory ", describe_bytes(peak_memory_bytes())));
    return reports;
  }

 private:
  struct Range {
    std::int64_t least, most;
  };
  /// A layer as the pass found it, and what may become of it.
  struct Measured {
    MeanKeyMoments moments;
    std::vector<MeanKeyChoice> choices;
  };

  static std::size_t index(std::int64_t layer) { return static_cast<std::size_t>(layer); }
  bool shares_budget() const { return options_.budgets == MklaBudgets::kMeasured; }
  bool dual() const { return options_.layout == MklaLayout::kDual; }

  MeanKeyShape empty_shape() const { return {dual(), options_.has_position(), options_.servable, 0, {}}; }

  MeanKeyFitOptions fit_options() const {
    return {dual(),
            options_.has_position(),
            options_.centred && !options_.servable,
            options_.complex_slots,
            options_.sensitivity,
            options_.gain,
            options_.metric};
  }

  HeadFields convertible_heads(const ModelSpec& spec, std::int64_t layer) const {
    const HeadFields heads = heads_to_convert(spec, layer, path_);
    if (options_.servable && (heads.key_bias || heads.value_bias))
      throw ConfigError(cat(path_, ": layer ", layer,
                            ": servable: other engines hold no biases of keys and values, as ", spec.family,
                            " has them"));
    if (options_.servable && heads.rope != RopeUse::kModel)
      throw ConfigError(cat(path_, ": layer ", layer, ": servable: other engines rotate all layers alike, and ",
                            spec.family, " does not; leave servable out"));
    return heads;
  }

  std::int64_t most_latent(const HeadFields& heads, std::int64_t hidden) const {
    return std::min(2 * heads.kv_heads * heads.head_dim, hidden);
  }
  std::int64_t most_slots(const HeadFields& heads) const {
    return options_.servable ? heads.head_dim / 2 : heads.kv_heads * heads.head_dim / 2;
  }
  std::int64_t most_cached(const HeadFields& heads, std::int64_t hidden) const {
    return 2 * most_slots(heads) + most_latent(heads, hidden);
  }
  /// Numbers of slots that leave as much to the latent as it can hold, and values something to be rebuilt from.
  Range slot_range(const HeadFields& heads, std::int64_t hidden, std::int64_t cached) const {
    const std::int64_t kept = dual() ? 0 : 1, too_many = std::max<std::int64_t>(0, cached - most_latent(heads, hidden));
    return {(too_many + 1) / 2, std::min(most_slots(heads), (cached - kept) / 2)};
  }

  /// The pairs of that many slots of a servable layer, at equal steps from the fastest; other layers choose their own.
  std::vector<std::int64_t> comb(std::int64_t slots, const HeadFields& heads) const {
    std::vector<std::int64_t> pairs(static_cast<std::size_t>(slots), 0);
    if (!options_.servable || slots == 0) return pairs;
    const std::int64_t step = heads.head_dim / 2 / slots;
    for (std::size_t i = 0; i < pairs.size(); ++i) pairs[i] = static_cast<std::int64_t>(i) * step;
    return pairs;
  }

  /// One walk through the model as the pass finds it.
  std::vector<Measured> measure(const Decoder& decoder, const PassInputs& inputs, PartTimes& times) const {
    std::vector<Tap> taps = MeanKeyGathering::taps();
    taps.insert(taps.end(), {Tap::kLayerInput, Tap::kAttentionOutput});
    std::vector<Measured> all;
    const PartTimes::Running walking(times, "the model's forward pass");
    Progress bar("mkla", decoder.spec().layer_count(), "layers measured");
    for (LayerWalk walk(decoder, *inputs.rows, {}); !walk.done(); bar.advance()) {
      check_interrupt();
      const std::int64_t layer = walk.layer();
      const GroupedQueryAttention& attention = grouped(decoder, layer);
      const at::Tensor frequencies = decoder.spec().rotary(attention.heads().rope).frequencies(1);
      MeanKeyGathering gathering(attention.heads(), softmax_scale(decoder.spec(), attention.heads()),
                                 head_weights(attention).output, frequencies, options_.attention_rows,
                                 options_.token_importance);
      LayerSample sample(options_.error_rows);
      walk.advance(taps, [&](std::size_t, Tap tap, const at::Tensor& tensor) {
        const PartTimes::Running gathered(times, "moments");
        gathering.see(tap, tensor);
        sample.see(tap, tensor);
      });
      Measured& measured = all.emplace_back(Measured{gathering.result(), {}});
      const PartTimes::Running trying(times, "sizes");
      measured.choices = options_.servable ? tried_combs(decoder, layer, measured.moments, sample, inputs)
                                           : tried(decoder, layer, measured.moments, sample, inputs);
    }
    return all;
  }

  static GroupedQueryAttention& grouped(const Decoder& decoder, std::int64_t layer) {
    // A conversion takes a layer's own weights over.
    return const_cast<GroupedQueryAttention&>(*as_grouped_query(*decoder.layers[index(layer)].attention));
  }

  MeanKeyFit fit(const Decoder& decoder, std::int64_t layer, const MeanKeyMoments& moments,
                 std::int64_t comb_slots) const {
    const GroupedQueryAttention& attention = grouped(decoder, layer);
    return MeanKeyFit(attention.heads(), head_weights(attention), moments, fit_options(),
                      options_.servable ? comb(comb_slots, attention.heads()) : std::vector<std::int64_t>());
  }

  std::unique_ptr<Attention> made(const Decoder& decoder, std::int64_t layer, MeanKeyFit& fit,
                                  const MeanKeyChoice& choice, const PassInputs& inputs, LayerReport* report) const {
    MeanKeyMaps maps = fit.maps(choice.slots, choice.cached - 2 * choice.slots);
    if (report && options_.spread) spread_latent(maps);
    MeanKeyShape shape = empty_shape();
    shape.latent = choice.cached - 2 * choice.slots;
    shape.slots = maps.slots;
    if (report) {
      report->kept = {maps.slots};
      report->singular_values = maps.singular_values;
      report->error.joint = std::sqrt(choice.error.relative);
    }
    return mean_key_attention(grouped(decoder, layer), shape, maps, inputs.weights);
  }

  void convert(Decoder& decoder, std::int64_t layer, const MeanKeyMoments& moments, const MeanKeyChoice& choice,
               const PassInputs& inputs, LayerReport& report) const {
    MeanKeyFit closed = fit(decoder, layer, moments, choice.slots);
    decoder.replace_attention(index(layer), made(decoder, layer, closed, choice, inputs, &report));
  }

  /// Numbers of slots that are tried with the stated number of cached values, and with others up to `widest`.
  std::vector<std::int64_t> slot_counts(const Decoder& decoder, std::int64_t layer, std::int64_t widest) const {
    if (!options_.pairs.automatic()) return {options_.pairs.given().at(index(layer))};
    const HeadFields& heads = grouped(decoder, layer).heads();
    const std::int64_t hidden = decoder.spec().hidden;
    const Range stated = slot_range(heads, hidden, options_.cached.at(index(layer)));
    std::vector<std::int64_t> counts = slot_grid(slot_range(heads, hidden, widest).most);
    if (std::find(counts.begin(), counts.end(), stated.least) == counts.end()) counts.push_back(stated.least);
    return counts;
  }

  /// For every budget that a layer may have the slots with the least error.
  std::vector<MeanKeyChoice> tried(const Decoder& decoder, std::int64_t layer, const MeanKeyMoments& moments,
                                   const LayerSample& sample, const PassInputs& inputs) const {
    const std::vector<std::int64_t> budgets = budgets_of(decoder.spec(), layer);
    std::vector<MeanKeyChoice> best;
    for (const std::int64_t budget : budgets) best.push_back({budget, -1, {}});
    MeanKeyFit closed = fit(decoder, layer, moments, 0);
    for (const std::int64_t slots : slot_counts(decoder, layer, budgets.front())) {
      for (MeanKeyChoice& choice : best) {  // the widest first, so that one decomposition serves all
        const Range range = slot_range(grouped(decoder, layer).heads(), decoder.spec().hidden, choice.cached);
        if (slots < range.least || slots > range.most) continue;
        MeanKeyChoice now{choice.cached, slots, {}};
        now.error = sample.error(*made(decoder, layer, closed, now, inputs, nullptr), decoder);
        if (choice.slots < 0 || now.error.relative < choice.error.relative) choice = now;
      }
    }
    std::erase_if(best, [](const MeanKeyChoice& choice) { return choice.slots < 0; });
    return best;
  }

  /// Combs of all sizes that fit the layer.
  std::vector<MeanKeyChoice> tried_combs(const Decoder& decoder, std::int64_t layer, const MeanKeyMoments& moments,
                                         const LayerSample& sample, const PassInputs& inputs) const {
    std::vector<MeanKeyChoice> all;
    const std::int64_t cached = options_.cached.at(index(layer));
    const Range range = slot_range(grouped(decoder, layer).heads(), decoder.spec().hidden, cached);
    for (const std::int64_t slots : slot_counts(decoder, layer, cached)) {
      if (slots < range.least || slots > range.most) continue;
      MeanKeyChoice& choice = all.emplace_back(MeanKeyChoice{cached, slots, {}});
      MeanKeyFit closed = fit(decoder, layer, moments, slots);
      choice.error = sample.error(*made(decoder, layer, closed, choice, inputs, nullptr), decoder);
    }
    return all;
  }

  /// Descending; the stated one among them.
  std::vector<std::int64_t> budgets_of(const ModelSpec& spec, std::int64_t layer) const {
    const std::int64_t stated = options_.cached.at(index(layer));
    if (!shares_budget()) return {stated};
    return shared_budgets(stated, options_.widths, most_cached(*spec.attention(layer).heads(), spec.hidden));
  }

  /// One of each layer's choices.
  std::vector<MeanKeyChoice> chosen(std::vector<Measured>& measured) const {
    std::vector<std::vector<MeanKeyChoice>> layers;
    std::int64_t total = 0;
    for (std::size_t layer = 0; layer < measured.size(); ++layer) {
      layers.push_back(std::move(measured[layer].choices));
      total += options_.cached.at(layer);
    }
    if (!options_.servable) return share_budget(layers, total);
    std::vector<MeanKeyChoice> alike = choose_alike(layers);
    if (alike.empty()) throw ConfigError(cat(path_, ".cached: no comb of pairs fits all layers; name pairs"));
    return alike;
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, Mkla> kMkla(
    "mkla", "mean-key latent attention: one latent for all heads, rotated where it matters, in closed form");

}  // namespace
}  // namespace mla
