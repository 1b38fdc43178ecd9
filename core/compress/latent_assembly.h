// Splitting a source layer's weights by kept rotation pairs, and assembling a latent layer from the parts.
#pragma once

#include <memory>

#include "core/attention/grouped_query.h"
#include "core/attention/latent.h"

namespace mla {

/// Rows of a layer's keys and values that a factorization replaces, in the arithmetic's dtype.
struct FactorInputs {
  at::Tensor key;    ///< position-free key rows, head by head, [kv_heads * nope, hidden]
  at::Tensor value;  ///< [kv_heads * head_dim, hidden]
};
FactorInputs factor_inputs(const GroupedQueryAttention& source, const KeptPairs& kept, at::ScalarType arithmetic);

/// The latent layer that computes what `source` computes, up to the dropped rotations and the factorization's error.
/// Rows of queries and keys are put in the order [kept pairs' first dims; their partners; position-free dims] per head
/// (MHA2MLA section 3.1; a query head follows its KV head). New factors take dtype `weights`, absent: the dtype of the
/// source's keys; rows that are only moved keep theirs. QK-norm weights are stored once when every head keeps the same
/// pairs, and once per head (`norms_per_head`) otherwise.
std::unique_ptr<LatentAttention> assemble_latent(const GroupedQueryAttention& source, const KeptPairs& kept,
                                                 const Factorization& factors, std::optional<at::ScalarType> weights,
                                                 bool norms_per_head);

}  // namespace mla
