// Matrices that files hold as one and a model as several.
#pragma once

#include <string>
#include <vector>

#include "core/model/model_spec.h"
#include "core/model/safetensors.h"
#include "core/model/safetensors_writer.h"

namespace mla {

/// A linear map of a block's file, and those of the model whose rows stand in it one after the other, named relative to
/// the block: "self_attn.qkv_proj".
struct FusedMap {
  std::string name;
  std::vector<std::string> parts;
};

/// Takes fused matrices apart into views. Files of converted models, which hold the parts, stay as they are. Throws
/// DataError, with `where` for the source, for a matrix whose shape is not that of its parts together.
void split_fused(const ModelSpec& spec, const std::vector<FusedMap>& maps, WeightMap& weights,
                 const std::string& where);

/// The opposite, for the tensors of a file in their order: each fused matrix stands where its first part stood.
void join_fused(const ModelSpec& spec, const std::vector<FusedMap>& maps, std::vector<TensorSource>& tensors);

}  // namespace mla
