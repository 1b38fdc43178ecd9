// Keys and values as products of low rank, each matrix by itself, with all of RoPE: what SVD-LLM, ASVD and Palu share.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/compress/pass.h"
#include "core/linalg/svd.h"
#include "core/low_rank/allocator.h"
#include "core/low_rank/whitening.h"

namespace mla {

/// Part of a pass's options: call fields() from its own.
struct KeyValueOptions {
  std::optional<std::int64_t> cached;
  Json allocate = {{"name", "uniform"}};

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("cached", self.cached,
          "values cached per token and layer, half of them a latent of keys and half one of values; mean over layers");
    visit("allocate", self.allocate,
          "how layers share the keys' half, and the values': {\"name\": \"uniform\" | \"adjusted\" | …}");
  }
  void validate(const std::string& path) const;
};

/// How the inputs of a layer's keys and values count, from statistics of the model as the pass found it.
using WhitenInputs = std::function<Whitening(const Statistics* statistics, std::int64_t layer)>;

/// Ranks of a layer's key and value matrix, of each group of KV heads.
struct KeyValueRanks {
  std::int64_t key = 0, value = 0;
};

/// Ranks of all layers instead of an allocator's: `most` is the largest that a matrix has use for, by layer; they add
/// up to `budget`, keys and values of all layers together.
using ShareKeyValueRanks =
    std::function<std::vector<KeyValueRanks>(const std::vector<KeyValueRanks>& most, std::int64_t budget)>;

/// A latent of keys and one of values are cached before rotation; keys are rebuilt and rotated when they are read
/// (attention of kind split_latent). With `groups` > 1 the KV heads of each group have latents of their own.
class KeyValueFactors {
 public:
  KeyValueFactors(KeyValueOptions options, std::int64_t groups, const std::string& path);

  /// What the allocator measures.
  Requirements requirements() const;
  bool measures_shapes() const { return allocator_->measures(); }
  /// Throws ConfigError for a budget that the layers' ranks do not fit, and for models that normalise keys.
  ModelSpec plan(const ModelSpec& spec) const;
  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs, const WhitenInputs& whiten,
                                 const ShareKeyValueRanks& share = {}) const;

 private:
  /// One matrix of a layer: what each group's rows come to, whitened and decomposed.
  struct Factored {
    std::vector<TruncatedSvd> groups;
    at::Tensor inverse;
    double error(std::int64_t rank) const;  ///< relative, by the whitened measure
  };

  KeyValueRanks stated() const;
  std::int64_t largest(const HeadFields& heads, const ModelFrame& frame) const;
  std::shared_ptr<const AttentionSpec> factored(const HeadFields& heads, KeyValueRanks ranks) const;
  Factored decompose(const at::Tensor& matrix, const Whitening& whitening) const;
  std::vector<KeyValueRanks> shared(const ModelSpec& source, const ShareKeyValueRanks& share) const;
  std::vector<std::int64_t> allocated(const ModelSpec& source, const std::vector<Factored>& factors, std::int64_t rank,
                                      const PassInputs& inputs) const;
  std::unique_ptr<Attention> assemble(const ModelSpec& source, Attention& attention, const Factored& keys,
                                      const Factored& values, KeyValueRanks ranks, const PassInputs& inputs,
                                      LayerReport& report) const;

  KeyValueOptions options_;
  std::int64_t groups_;
  std::string path_;
  std::unique_ptr<Allocator> allocator_;
};

/// A pass that makes such factors of matrices whitened by one statistic of the inputs.
class WhitenedFactors : public Pass {
 public:
  WhitenedFactors(const KeyValueOptions& options, const Requirement& statistic, const std::string& path)
      : path_(path), statistic_(statistic), factors_(options, 1, path) {}

  Requirements requirements() const override;
  bool measures_shapes() const override { return factors_.measures_shapes(); }
  ModelSpec plan(const ModelSpec& spec) const override { return factors_.plan(spec); }
  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override;

 protected:
  /// By the statistic of a layer. Throws DataError, saying `layer`, for one that whitens nothing.
  virtual Whitening whitening(const at::Tensor& statistic, std::int64_t layer) const = 0;

  std::string path_;  ///< of the pass in a config, for errors

 private:
  Requirement statistic_;
  KeyValueFactors factors_;
};

}  // namespace mla
