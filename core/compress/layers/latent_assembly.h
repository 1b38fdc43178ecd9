// Splitting a source layer's weights by kept rotation pairs, and assembling a latent layer from the parts.
#pragma once

#include <memory>
#include <string>

#include "core/attention/grouped_query.h"
#include "core/attention/latent.h"

namespace mla {

/// Shape of a layer of these heads with partial RoPE alone: its latent is [position-free keys; values] itself.
/// `content_width`: position-free dims of a head.
LatentLayout partial_rope_layout(const HeadFields& heads, KeptPairs kept, std::int64_t content_width,
                                 bool norms_per_head);

/// Partial RoPE alone: the layer that computes what `source` computes, up to the dropped rotations. Queries and keys
/// are mapped as `rotation` says; where it picks pairs, rows are put in the order [kept pairs' first dims; their
/// partners; position-free dims] per head (MHA2MLA section 3.1; a query head follows its KV head), bit for bit. QK-norm
/// weights are stored once when every head keeps the same pairs, and once per head (`norms_per_head`) otherwise.
std::unique_ptr<LatentAttention> assemble_partial_rope(const GroupedQueryAttention& source, const KeyRotation& rotation,
                                                       bool norms_per_head);

/// What a factorization of a layer with partial RoPE alone replaces: its position-free keys and its values, head by
/// head, in the arithmetic's dtype.
LayerProblem factor_problem(const LatentAttention& partial_rope, at::ScalarType arithmetic);

/// Stands for the keys and values that a factorization of the layer replaces.
std::string latent_hash(const LatentAttention& partial_rope);

/// What errors of position-free keys and of values do to logits and to the layer's output, where inputs have this
/// second moment and this mean: the metrics of LayerProblem.
void add_attention_metrics(LayerProblem& problem, const LatentAttention& partial_rope, const at::Tensor& mean);

/// The same layer with keys and values rebuilt from the factors' latent, up to the factorization's error. New factors
/// take dtype `weights`, absent: the dtype of what they replace; everything else is shared with `partial_rope`.
std::unique_ptr<LatentAttention> assemble_low_rank(const LatentAttention& partial_rope, const Factorization& factors,
                                                   std::optional<at::ScalarType> weights);

}  // namespace mla
