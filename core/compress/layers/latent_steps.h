// The two steps of MHA2MLA, each for one layer: partial RoPE, then low-rank factors of what is not rotated.
#pragma once

#include <memory>
#include <string>

#include "core/attention/grouped_query.h"
#include "core/attention/latent.h"
#include "core/base/json.h"
#include "core/compress/pass.h"
#include "core/low_rank/allocator.h"
#include "core/low_rank/factorizer.h"
#include "core/partial_rope/key_rotation.h"

namespace mla {

/// Chooses which rotation of a grouped-query layer's keys survives (MHA2MLA section 3.1).
class RopeStep {
 public:
  /// `options`: {"name": …} of a registered RotationStrategy, read from `path`.rope. Throws ConfigError naming it.
  RopeStep(const Json& options, std::string path);

  const Requirements& requirements() const { return measured_; }
  /// Whether the layer is one to convert: false for layers without keys, which stay as they are. Throws ConfigError
  /// naming `path` for one that is converted already.
  bool converts(const ModelSpec& spec, std::int64_t layer) const;
  /// The model with partial RoPE; pairs that data will choose stand for as many others. Throws ConfigError for options
  /// that do not fit the heads of such layers.
  ModelSpec plan(const ModelSpec& spec) const;
  std::unique_ptr<LatentAttention> apply(const ModelSpec& spec, const GroupedQueryAttention& source, std::int64_t layer,
                                         const Statistics* statistics) const;

 private:
  void check(const ModelSpec& spec) const;
  LatentLayout layout(const ModelSpec& spec, std::int64_t layer) const;

  std::string pass_path_, path_;
  std::unique_ptr<RotationStrategy> rotation_;
  Requirements measured_;
};

/// Factors position-free keys and values of a layer with partial RoPE (MHA2MLA section 3.2).
class LowRankStep {
 public:
  /// `options`: {"name": …} of a registered Factorizer, `allocate` of an Allocator, read from `path`.low_rank and
  /// `path`.allocate. Throws ConfigError naming them.
  LowRankStep(const Json& options, const Json& allocate, const std::string& path);

  Requirements requirements() const;

  /// Throws ConfigError naming `path` where layers cannot be `measured` one after the other while they are converted:
  /// nothing is measured, or widths follow from all layers.
  void check_walk(const Requirements& measured, const std::string& path) const;

  /// `partial`: the model with partial RoPE; returned with factors in every layer that has it. Throws ConfigError for
  /// widths that do not fit.
  ModelSpec plan(const ModelSpec& partial) const;
  void announce(const ModelSpec& partial, DecompositionStore& store) const;
  /// Whether widths are known only once all layers are decomposed.
  bool measures_widths() const { return allocator_->measures(); }
  /// The widths of layers with partial RoPE, 0 for others, which are null in `attentions`. Decompositions that this
  /// takes are left in `store` for apply().
  std::vector<std::int64_t> widths(const ModelSpec& partial, const std::vector<const LatentAttention*>& attentions,
                                   const PassInputs& inputs, DecompositionStore& store) const;
  /// The layer with factors of that width (0: the one that is stated for it), and what they lose.
  std::unique_ptr<LatentAttention> apply(const ModelSpec& partial, const LatentAttention& attention, std::int64_t layer,
                                         std::int64_t width, const PassInputs& inputs, DecompositionStore& store,
                                         LayerReport& report) const;

 private:
  void check(const ModelSpec& partial) const;
  LatentLayout layout(const ModelSpec& partial, std::int64_t layer) const;
  std::string kind_of(const LatentLayout& partial) const;
  const Decomposition& decomposition(const LatentAttention& attention, std::int64_t layer, std::int64_t width,
                                     const PassInputs& inputs, DecompositionStore& store) const;

  std::string path_, name_;
  std::unique_ptr<Factorizer> factorizer_;
  std::unique_ptr<Allocator> allocator_;
};

/// What a strategy asks for by the name of a statistic.
Requirement named_requirement(const std::string& name);

/// Runs `convert(layer, report)` for each layer, with its seconds in the report and its end told to the inputs.
std::vector<LayerReport> for_each_layer(const Decoder& decoder, const PassInputs& inputs,
                                        const std::function<void(std::int64_t, LayerReport&)>& convert);

}  // namespace mla
