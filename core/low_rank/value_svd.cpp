#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/low_rank/latent_width.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

class ValueDecomposition : public Decomposition {
 public:
  ValueDecomposition(const LayerProblem& problem, std::int64_t largest_width, const RankFactorOptions& options)
      : key_(problem.key),
        value_(problem.value),
        factor_({{value_, problem.output_metric}}, problem.input_moment, largest_width - key_.size(0), options) {}

  Factorization truncate(std::int64_t width) const override {
    const std::int64_t keys = key_.size(0), rank = width - keys;
    Factorization result;
    result.down = at::cat({key_, factor_.down(rank)});
    result.up_value = factor_.up(0, rank);
    result.key = {0, keys};
    result.value = {keys, rank};
    result.value_singular_values = factor_.value_list(rank);
    result.error = relative_error(key_, 0, value_, factor_.squared_error(0, rank));
    return result;
  }

  double error(std::int64_t width) const override {
    return relative(factor_.energy_left(width - key_.size(0)), factor_.energy());
  }

 private:
  at::Tensor key_, value_;
  RankFactor factor_;
};

/// Only V is low-rank; K_nope stays as it is, which also suits keys with a norm of their own (QK-norm). The latent is
/// [K_nope; value latent]: here d_kv counts the VALUE latent per KV head, and the layer caches
/// nope_rows + kv_heads * d_kv elements per token.
class ValueSvd : public Factorizer {
 public:
  struct Options {
    LatentWidth width;
    RankFactorOptions factor;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      LatentWidth::fields(self.width, visit);
      RankFactorOptions::fields(self.factor, visit);
    }
    void validate(const std::string& path) const { factor.validate(path); }
  };
  explicit ValueSvd(Options options) : options_(std::move(options)) {}

  LatentShape shape(std::int64_t layer, const FactorGeometry& geometry) const override {
    const std::int64_t keys = geometry.nope_rows(layer), values = options_.width.elements(layer, geometry);
    return {.width = keys + values, .key = {0, keys}, .value = {keys, values}, .key_up = false};
  }

  WidthBounds bounds(std::int64_t layer, const FactorGeometry& geometry) const override {
    const std::int64_t keys = geometry.nope_rows(layer);
    return {keys + 1, keys + std::min(geometry.value_rows(), geometry.hidden)};
  }

  Json sharing_key() const override { return {"value_svd", write_fields(options_.factor)}; }

  bool compresses_keys() const override { return false; }

  void check(const FactorGeometry& geometry, const std::string& path) const override {
    options_.width.check(geometry, path);
    const std::int64_t rank = std::min(geometry.value_rows(), geometry.hidden);
    for (std::int64_t layer = 0; layer < geometry.layers; ++layer) {
      const std::int64_t elements = options_.width.elements(layer, geometry);
      if (elements <= rank) continue;
      throw ConfigError(cat(options_.width.describe(path, layer), ": the value latent would have ", elements,
                            " elements but V has rank at most ", rank, " (", geometry.value_rows(), " rows, hidden ",
                            geometry.hidden, ")"));
    }
  }

  bool needs_input_moment() const override { return options_.factor.needs_input_moment(); }
  bool needs_attention_metrics() const override { return options_.factor.needs_attention_metrics(); }

  std::unique_ptr<Decomposition> decompose(const LayerProblem& problem, std::int64_t largest_width) const override {
    return std::make_unique<ValueDecomposition>(problem, largest_width, options_.factor);
  }

 private:
  Options options_;
};

const Registration<Factorizer, ValueSvd> kValueSvd("value_svd", "a latent for values alone; keys stay as they are");

}  // namespace
}  // namespace mla
