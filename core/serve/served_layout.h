// Whether a model has the form of DeepSeek's attention, and which: from its description alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/attention/latent.h"
#include "core/model/model_spec.h"

namespace mla {

/// Where a layer's rotated pairs stand in the one rotated key of the form.
struct RotatedPlaces {
  std::vector<std::int64_t> pairs;                ///< the model's pairs by place: fastest first, those of all keys
  std::vector<std::vector<std::int64_t>> places;  ///< [rotated keys][pairs of each]: the place of each pair
};

/// The rotated keys of all KV heads side by side, ordered by frequency: a query reads the places of its own KV head,
/// and has zeros elsewhere.
RotatedPlaces rotated_places(const LatentLayout& layout);

/// Throws ConfigError, WHERE in front, for a model whose blocks are built otherwise than Llama's: what no engine's
/// DeepSeek class computes, and no code written beside one.
void refuse_other_blocks(const ModelSpec& spec, const std::string& where);

/// Throws ConfigError, WHERE in front, for a model whose frequencies depend on a text's length: no format that is
/// written states such a rotation.
void refuse_rotation_by_length(const ModelSpec& spec, const std::string& where);

/// The layouts of all layers, which agree in all that the form has once. Throws ConfigError, WHERE in front, as
/// DeepSeekForm does. `most_latent`: layers may have latents of different widths up to it; 0: they may not.
std::vector<const LatentLayout*> servable_layouts(const ModelSpec& spec, std::int64_t most_latent,
                                                  const std::string& where);

}  // namespace mla
