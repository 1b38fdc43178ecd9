#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/registry.h"
#include "core/compress/calibration/layer_walk.h"
#include "core/compress/layers/head_weights.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/mean_key/layer.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

enum class NormFold { kRegression, kMean };
std::vector<std::pair<std::string, NormFold>> enum_names(NormFold) {
  return {{"regression", NormFold::kRegression}, {"mean", NormFold::kMean}};
}

/// What a linear map followed by norms gives on calibration data, and the linear map that comes nearest. Float64. Each
/// norm is one of a part of the map's rows: of a head, or of all heads together. With x the input (and a one, where the
/// map has a bias), a part's y = W x and n = g * y / rms(y).
class NormedMap {
 public:
  NormedMap(const Linear& map, const at::Tensor& norm, std::int64_t parts, const ModelFrame& frame)
      : gains_(norm.detach().to(at::kDouble)), parts_(parts), epsilon_(frame.norm_epsilon) {
    if (frame.norms_add_one) gains_ = gains_ + 1;
    matrix_ = map.to_dense().detach().to(at::kDouble);
    if (map.bias().defined()) matrix_ = at::cat({matrix_, map.bias().detach().to(at::kDouble).unsqueeze(1)}, 1);
    product_ = at::zeros({parts}, matrix_.options());
    square_ = at::zeros_like(product_);
    cross_ = at::zeros_like(matrix_);
  }

  /// inputs [tokens, hidden] float64, without the ones.
  void see(const at::Tensor& inputs) {
    const at::Tensor x = with_ones(inputs);
    const at::Tensor y = at::mm(x, matrix_.t()).view({x.size(0), parts_, -1});
    const at::Tensor scaled = y * gains_;
    const at::Tensor normed = scaled * (y.square().mean(-1, true) + epsilon_).rsqrt();
    product_ += (normed * scaled).sum(at::IntArrayRef({0, 2}));
    square_ += scaled.square().sum(at::IntArrayRef({0, 2}));
    energy_ += normed.square().sum().item<double>();
    cross_.addmm_(normed.flatten(1).t(), x);
    gram_ = gram_.defined() ? gram_.addmm_(x.t(), x) : at::mm(x.t(), x);
  }

  /// [rows, hidden], with a column for the bias where there is one: each part by one number, its mean norm in the sense
  /// of least squares.
  at::Tensor scaled() const {
    const at::Tensor factors = (product_ / square_.clamp_min(1e-300)).view({-1, 1}) * gains_;
    return matrix_ * factors.view({-1, 1});
  }
  /// The least squares of all linear maps, drawn to scaled() by `damping` times the inputs' mean energy.
  at::Tensor regressed(double damping) const {
    const at::Tensor start = scaled(), missing = cross_ - at::mm(start, gram_);
    const at::Tensor damped = gram_ + damping * gram_.diagonal().mean() * at::eye(gram_.size(0), gram_.options());
    return start + at::linalg_solve(damped, missing, /*left=*/false);
  }
  /// Of that map: the Frobenius norm of what it misses over that of what is wanted.
  double error(const at::Tensor& map) const {
    const double missed =
        energy_ - 2 * (cross_ * map).sum().item<double>() + (at::mm(map, gram_) * map).sum().item<double>();
    return energy_ > 0 ? std::sqrt(std::max(0.0, missed) / energy_) : 0;
  }

 private:
  at::Tensor with_ones(const at::Tensor& inputs) const {
    if (matrix_.size(1) == inputs.size(1)) return inputs;
    return at::cat({inputs, at::ones({inputs.size(0), 1}, inputs.options())}, 1);
  }

  at::Tensor matrix_, gains_, product_, square_, cross_, gram_;
  std::int64_t parts_;
  double epsilon_, energy_ = 0;
};

/// Layers whose queries and keys are normalised (QK-norm) become layers without norms, for conversions that need keys
/// to be linear in the hidden state. Ours. What it loses is reported, and is for fit_layers and training to mend.
class FoldQkNorm final : public Pass {
 public:
  struct Options {
    NormFold method = NormFold::kRegression;
    double damping = 1e-2;
    std::int64_t skip_positions = 1;
    std::int64_t error_rows = 12;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("method", self.method,
            "regression (the linear maps nearest to normalised queries and keys) | mean (each head, or all that are "
            "normalised together, over its mean norm)");
      visit("damping", self.damping, "regression: share of the inputs' mean energy that holds maps near those of mean");
      visit("skip_positions", self.skip_positions,
            "first tokens of each row left out: the first one's norm is like no other");
      visit("error_rows", self.error_rows,
            "rows, the first ones, on which the loss of each layer's output is measured");
    }
    void validate(const std::string& path) const {
      if (!(std::isfinite(damping) && damping > 0))
        throw ConfigError(cat(path, ".damping = ", damping, ": must be more than 0"));
      if (skip_positions < 0)
        throw ConfigError(cat(path, ".skip_positions = ", skip_positions, ": must not be negative"));
      check_at_least_one(path + ".error_rows", error_rows);
    }
  };

  FoldQkNorm(Options options, const std::string& path) : options_(options), path_(path) {}

  bool reads_rows() const override { return true; }

  ModelSpec plan(const ModelSpec& spec) const override {
    ModelSpec planned = spec;
    bool any = false;
    for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
      const std::optional<HeadFields> heads = grouped_query_heads(spec.attention(layer));
      if (!heads || !heads->qk_norm) continue;
      expect_dense(spec, layer, "self_attn.", cat(path_, ": layer ", layer));
      planned.layers[static_cast<std::size_t>(layer)].attention = without_norms(*heads);
      any = true;
    }
    if (!any)
      throw ConfigError(cat(path_, ": no layer normalises queries and keys (QK-norm), or other passes came before; ",
                            "leave it out, or list it first"));
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const at::NoGradGuard off;
    LayerWalk walk(decoder, *inputs.rows, {});
    double sum = 0;
    std::int64_t folded = 0;
    std::vector<LayerReport> reports = for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      const GroupedQueryAttention* found = as_grouped_query(*decoder.layers[static_cast<std::size_t>(layer)].attention);
      if (!found || !found->heads().qk_norm) return walk.advance();
      fold(decoder, layer, *found, walk, inputs, report);
      sum += report.error.joint * report.error.joint;
      ++folded;
    });
    log_info(cat(path_, ": ", folded, " of ", reports.size(),
                 " layers without QK-norm; mean relative squared error of ", "outputs ",
                 sum / static_cast<double>(folded)));
    return reports;
  }

 private:
  static std::shared_ptr<const AttentionSpec> without_norms(HeadFields heads) {
    heads.qk_norm = heads.qk_norm_whole = false;
    return std::make_shared<GroupedQuerySpec>(heads);
  }

  /// Measured on the layer as it was found, through which the walk goes before it is replaced.
  void fold(Decoder& decoder, std::int64_t layer, const GroupedQueryAttention& found, LayerWalk& walk,
            const PassInputs& inputs, LayerReport& report) const {
    const HeadFields heads = found.heads();
    const GroupedQueryAttention::Weights& held = found.weights();
    const bool whole = heads.qk_norm_whole;
    NormedMap query(held.query, held.query_norm, whole ? 1 : heads.heads, found.frame());
    NormedMap key(held.key, held.key_norm, whole ? 1 : heads.kv_heads, found.frame());
    LayerSample sample(options_.error_rows);
    std::int64_t tokens = 0;
    walk.advance({Tap::kLayerInput, Tap::kAttentionInput, Tap::kAttentionOutput}, [&](std::size_t, Tap tap,
                                                                                      const at::Tensor& tensor) {
      sample.see(tap, tensor);
      if (tap != Tap::kAttentionInput) return;
      const std::int64_t skipped = std::min(options_.skip_positions, tensor.size(1));
      const at::Tensor x = tensor.narrow(1, skipped, tensor.size(1) - skipped).flatten(0, 1).to(at::kDouble);
      if (x.size(0) == 0) return;
      query.see(x);
      key.see(x);
      tokens += x.size(0);
    });
    if (tokens == 0 || sample.empty())
      throw DataError(cat(path_, ": needs calibration rows of at least ",
                          std::max<std::int64_t>(2, options_.skip_positions + 1), " tokens"));
    const at::Tensor key_map = map_of(key);
    report.error.key = key.error(key_map);
    auto made = std::make_unique<GroupedQueryAttention>(
        found.frame(), without_norms(heads)->heads().value(),
        GroupedQueryAttention::Weights{as_held(held.query, map_of(query), inputs),
                                       as_held(held.key, key_map, inputs),
                                       held.value,
                                       held.output,
                                       {},
                                       {}});
    report.error.joint = std::sqrt(sample.error(*made, decoder).relative);
    decoder.replace_attention(static_cast<std::size_t>(layer), std::move(made));
  }

  at::Tensor map_of(const NormedMap& map) const {
    return options_.method == NormFold::kMean ? map.scaled() : map.regressed(options_.damping);
  }

  /// Matrix and bias in the type that the map was held in, or that new weights are to have.
  static Linear as_held(const Linear& before, const at::Tensor& map, const PassInputs& inputs) {
    const at::Tensor stored = map.to(inputs.weights.value_or(before.scalar_type()));
    if (!before.bias().defined()) return Linear(stored.contiguous());
    const std::int64_t columns = before.columns();
    return Linear(stored.narrow(1, 0, columns).contiguous(), stored.select(1, columns).contiguous());
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, FoldQkNorm> kFoldQkNorm(
    "fold_qk_norm",
    "QK-norm folded into queries and keys, for conversions that need linear keys; its loss is reported");

}  // namespace
}  // namespace mla
