// How a converted model's config.json describes its latent attention layers.
#pragma once

#include <optional>
#include <vector>

#include "core/attention/latent.h"
#include "core/base/json.h"
#include "core/model/decoder.h"

namespace mla {

/// A converted layer as config.json states it: its layout, and which up-projections are the identity.
struct LatentLayerConfig {
  LatentLayout layout;
  bool key_up = true;    ///< false: the key slice of the latent is the content key itself
  bool value_up = true;  ///< false: the value slice is the value itself
};

/// Layer descriptions from the "latent_attention" object of a config.json; an entry is empty for a layer that keeps
/// the source's attention. All are empty when the model is not converted. Throws DataError naming `name` and the layer.
std::vector<std::optional<LatentLayerConfig>> read_latent_config(const Json& config, const Geometry& geometry,
                                                                 const std::string& name);

/// `config` with its model type and "latent_attention" set to what `decoder` holds. Converted models get a model type
/// of their own, so that no other library loads them as what they no longer are.
/// `name` stands for the source in errors.
Json with_latent_config(Json config, const Decoder& decoder, const std::string& name);

/// The config of the model before conversion: model type restored, "latent_attention" removed. `config` is an object.
/// Throws DataError naming `name` and the key where a converted model's config does not name its source's type.
Json without_latent_config(Json config, const std::string& name);

}  // namespace mla
