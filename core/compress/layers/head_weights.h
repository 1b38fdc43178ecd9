// The matrices of a grouped-query layer's keys, values and output, taken apart by KV head and put together again.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/attention/grouped_query.h"
#include "core/base/json.h"
#include "core/model/model_spec.h"

namespace mla {

/// What passes over KV heads compute with, float64. Biases are undefined where the layer has none.
struct HeadWeights {
  at::Tensor key, value;            ///< [kv_heads * head_dim, hidden]
  at::Tensor key_bias, value_bias;  ///< [kv_heads * head_dim]
  at::Tensor output;                ///< [hidden, heads * head_dim]
  at::Tensor query;                 ///< [heads * head_dim, hidden]
  at::Tensor query_bias;            ///< [heads * head_dim]
};

HeadWeights head_weights(const GroupedQueryAttention& attention);

/// The heads of a layer whose keys and values a conversion can take apart: grouped_query, without QK-norm, dense.
/// Throws ConfigError naming `path` and the layer for another one.
HeadFields heads_to_convert(const ModelSpec& spec, std::int64_t layer, const std::string& path);

/// `spec` with other attention in every layer, whose heads are those to convert. Throws ConfigError as made() does, and
/// naming `path` for layers that do not fit the model.
using MadeAttention = std::function<std::shared_ptr<const AttentionSpec>(std::int64_t layer, const HeadFields& heads)>;
ModelSpec plan_each_layer(const ModelSpec& spec, const std::string& path, const MadeAttention& made);

/// The output projection that reads, of each query head, the coordinates of its KV head's values in `directions`
/// [kv_heads * head_dim, width] instead of the values: [hidden, heads * width].
at::Tensor absorb_directions(const at::Tensor& output, const at::Tensor& directions, const HeadFields& heads);

/// The layers' description in a config, `name` and fields, of the kind that is named.
std::shared_ptr<const AttentionSpec> attention_of_kind(const char* kind, Json fields);

/// A layer of `spec` made of `changed` maps and, where there is no other, of those of `source`: they keep their names.
/// New maps get dtype `weights`, absent: that of the source's keys.
std::unique_ptr<Attention> rebuild_attention(const AttentionSpec& spec, const ModelFrame& frame, Attention& source,
                                             const std::map<std::string, std::pair<at::Tensor, at::Tensor>>& changed,
                                             std::optional<at::ScalarType> weights);

}  // namespace mla
