// What the conversions to one shared key/value head (passes mfa and mfa_kr) have in common.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/per_layer.h"
#include "core/compress/layers/shared_head.h"
#include "core/compress/pass.h"

namespace mla {

/// What is to be close where layers do not become one shared head exactly.
enum class SharedHeadMetric { kOutputs, kWeights };
inline std::vector<std::pair<std::string, SharedHeadMetric>> enum_names(SharedHeadMetric) {
  return {{"outputs", SharedHeadMetric::kOutputs}, {"weights", SharedHeadMetric::kWeights}};
}
inline constexpr const char* kSharedHeadMetricHelp =
    "what is close: outputs (logits, and what is added to the stream, on calibration data) | weights (no data)";

/// Throws ConfigError, "DESCRIBED: …", for a width that is not even, or not from 2 to `most`, which `most_is` explains.
void check_even_width(std::int64_t width, std::int64_t most, const std::string& described, const std::string& most_is);

using ChangedMaps = std::map<std::string, std::pair<at::Tensor, at::Tensor>>;
/// Weight and, where it has one, bias of a map given with its bias as a last column.
std::pair<at::Tensor, at::Tensor> split_bias(const at::Tensor& biased, bool bias);

/// What both passes are told.
struct SharedHeadOptions {
  PerLayer width = 0;     ///< of the one key; 0: as much as is exact
  PerLayer second = 0;    ///< mfa: of the value; mfa_kr: of the part of the key that queries meet; 0: it follows
  std::string second_is;  ///< its option's name
  std::int64_t query_rank = 0;
  SharedHeadMetric metric = SharedHeadMetric::kOutputs;
};

/// A pass after which one key serves all heads of each layer.
class SharedHeadPass : public Pass {
 public:
  Requirements requirements() const override;
  ModelSpec plan(const ModelSpec& spec) const override;
  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override;

 protected:
  struct Widths {
    std::int64_t key = 0, second = 0;
  };
  /// A layer's maps but for its queries', which meet `query`, [heads * key width, hidden + 1], with the energy of the
  /// key's pairs.
  struct Converted {
    ChangedMaps maps;
    std::vector<std::int64_t> pairs;
    at::Tensor query, energy;
    SharedEnergy keys, values;
  };
  SharedHeadPass(SharedHeadOptions options, std::string path) : options_(std::move(options)), path_(std::move(path)) {}

  /// What the options state for a layer, checked. Throws ConfigError.
  virtual Widths widths_of(const HeadFields& heads, std::int64_t layer) const = 0;
  /// Fields of the kind `mfa` besides those of heads, pairs and queries; may change the biases that heads have.
  virtual Json fields_of(HeadFields& heads, const Widths& widths) const = 0;
  virtual Converted convert(const BiasedWeights& source, const at::Tensor& moment, const Widths& widths) const = 0;

  const SharedHeadOptions& options() const { return options_; }
  /// "compress[0].width", with the index where there is a list by layer.
  std::string described_width(std::int64_t layer) const;
  std::string described_second(std::int64_t layer) const;

 private:
  std::shared_ptr<const AttentionSpec> attention(HeadFields heads, const Widths& widths,
                                                 const std::vector<std::int64_t>& pairs) const;
  at::Tensor moment_of(const ModelSpec& spec, std::int64_t layer, const PassInputs& inputs) const;
  std::unique_ptr<Attention> converted(const Decoder& decoder, std::int64_t layer, const PassInputs& inputs,
                                       LayerReport& report) const;

  SharedHeadOptions options_;
  std::string path_;
};

}  // namespace mla
