#include "core/compress/layers/latent_assembly.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace mla {
namespace {

/// Dims of one head in their new order: rotated dims first, then the position-free ones, ascending.
struct HeadOrder {
  std::vector<std::int64_t> rotated, content;
};

HeadOrder order_of(const std::vector<std::int64_t>& pairs, std::int64_t head_dim) {
  HeadOrder order;
  const std::int64_t half = head_dim / 2;
  for (std::int64_t pair : pairs) order.rotated.push_back(pair);
  for (std::int64_t pair : pairs) order.rotated.push_back(pair + half);
  for (std::int64_t dim = 0; dim < head_dim; ++dim) {
    if (std::find(pairs.begin(), pairs.end(), dim % half) == pairs.end()) order.content.push_back(dim);
  }
  return order;
}

enum class Part { kRotated, kContent, kBoth };

/// Row indices of all heads' parts; head h follows the pairs of KV head h / group.
at::Tensor row_index(const KeptPairs& kept, std::int64_t head_dim, std::int64_t group, Part part) {
  std::vector<std::int64_t> rows;
  for (std::size_t kv = 0; kv < kept.size(); ++kv) {
    const HeadOrder order = order_of(kept[kv], head_dim);
    for (std::int64_t member = 0; member < group; ++member) {
      const std::int64_t first = (static_cast<std::int64_t>(kv) * group + member) * head_dim;
      if (part != Part::kContent)
        for (std::int64_t dim : order.rotated) rows.push_back(first + dim);
      if (part != Part::kRotated)
        for (std::int64_t dim : order.content) rows.push_back(first + dim);
    }
  }
  return at::tensor(rows, at::kLong);
}

Linear select_rows(const Linear& map, const at::Tensor& row_numbers) {
  const at::Tensor rows = row_numbers.to(map.device());
  return {map.to_dense().index_select(0, rows), map.bias().defined() ? map.bias().index_select(0, rows) : map.bias()};
}

/// Queries and keys of a layer, rotated dims and position-free ones apart.
struct RotatedParts {
  Linear query, rope_key, content_key;
};

RotatedParts picked_parts(const GroupedQueryAttention::Weights& from, const HeadFields& heads, const KeptPairs& kept) {
  return {select_rows(from.query, row_index(kept, heads.head_dim, heads.group(), Part::kBoth)),
          select_rows(from.key, row_index(kept, heads.head_dim, 1, Part::kRotated)),
          select_rows(from.key, row_index(kept, heads.head_dim, 1, Part::kContent))};
}

/// `map` times the matrix and the bias, in float64 and rounded once. A map [heads, out, in] goes head by head.
Linear mapped(const at::Tensor& map, const Linear& linear) {
  const auto through = [&](const at::Tensor& given) {  // [rows, columns]
    const at::Tensor wide = given.detach().to(at::kDouble), own = map.to(wide.device());
    const at::Tensor out = own.dim() == 2
                               ? at::mm(own, wide)
                               : at::bmm(own, wide.reshape({own.size(0), own.size(2), wide.size(1)})).flatten(0, 1);
    return out.to(given.scalar_type()).contiguous();
  };
  const at::Tensor bias = linear.bias().defined() ? through(linear.bias().unsqueeze(1)).squeeze(1) : at::Tensor();
  return {through(linear.to_dense()), bias};
}

RotatedParts mixed_parts(const GroupedQueryAttention::Weights& from, const KeyRotation& rotation) {
  return {mapped(rotation.query, from.query), mapped(rotation.rope_key, from.key), mapped(rotation.content, from.key)};
}

/// QK-norm weights [head_dim] in each head's new order: [heads, head_dim], or [head_dim] where all heads share it.
at::Tensor reorder_norm(const at::Tensor& weight, const KeptPairs& kept, std::int64_t head_dim, std::int64_t group,
                        bool per_head) {
  if (!weight.defined()) return {};
  if (!per_head) return weight.index_select(0, row_index({kept.front()}, head_dim, 1, Part::kBoth).to(weight.device()));
  const at::Tensor order = row_index(kept, head_dim, group, Part::kBoth).remainder(head_dim).to(weight.device());
  return weight.index_select(0, order).view({-1, head_dim});
}

}  // namespace

LatentLayout partial_rope_layout(const HeadFields& heads, KeptPairs kept, std::int64_t content_width,
                                 bool norms_per_head) {
  LatentLayout layout;
  layout.kept = std::move(kept);
  layout.content_width = content_width;
  layout.value_width = heads.head_dim;
  layout.key = {0, heads.kv_heads * layout.content_width};
  layout.value = {layout.key.width, heads.kv_heads * heads.head_dim};
  layout.latent_width = layout.key.width + layout.value.width;
  layout.key_up = layout.value_up = false;
  layout.norms_per_head = norms_per_head && heads.qk_norm;
  return layout;
}

std::unique_ptr<LatentAttention> assemble_partial_rope(const GroupedQueryAttention& source, const KeyRotation& rotation,
                                                       bool norms_per_head) {
  const HeadFields& heads = source.heads();
  const GroupedQueryAttention::Weights& from = source.weights();
  expects(rotation.picks() || !from.key_norm.defined(), "QK-norm weights belong to dims, which must not be mixed");
  const RotatedParts rotated =
      rotation.picks() ? picked_parts(from, heads, rotation.kept) : mixed_parts(from, rotation);
  const std::int64_t content_width = rotated.content_key.rows() / heads.kv_heads;
  LatentLayout layout = partial_rope_layout(heads, rotation.kept, content_width, norms_per_head);
  LatentAttention::Weights parts;
  parts.query = rotated.query;
  parts.rope_key = rotated.rope_key;
  const Linear& content_key = rotated.content_key;
  parts.down = Linear(at::cat({content_key.to_dense(), from.value.to_dense().to(content_key.scalar_type())}));
  // The latent is linear in x, so biases come back after it.
  parts.key_up = {{}, content_key.bias()};
  parts.value_up = {{}, from.value.bias()};
  parts.output = from.output;
  parts.query_norm = reorder_norm(from.query_norm, rotation.kept, heads.head_dim, heads.group(), norms_per_head);
  parts.key_norm = reorder_norm(from.key_norm, rotation.kept, heads.head_dim, 1, norms_per_head);
  return std::make_unique<LatentAttention>(source.frame(), heads, std::move(layout), std::move(parts));
}

LayerProblem factor_problem(const LatentAttention& partial_rope, at::ScalarType arithmetic) {
  expects(partial_rope.layout().is_partial_rope(), "keys and values have factors already");
  const auto rows = [&](const LatentSlice& slice) {
    return partial_rope.weights().down.to_dense().detach().narrow(0, slice.begin, slice.width).to(arithmetic);
  };
  return {rows(partial_rope.layout().key), rows(partial_rope.layout().value), {}};
}

std::string latent_hash(const LatentAttention& partial_rope) {
  const at::Tensor matrix = partial_rope.weights().down.to_dense().detach().to(at::kCPU).contiguous();
  return hash_bytes({static_cast<const char*>(matrix.const_data_ptr()), static_cast<std::size_t>(matrix.nbytes())});
}

void add_attention_metrics(LayerProblem& problem, const LatentAttention& partial_rope, const at::Tensor& mean) {
  const LatentLayout& layout = partial_rope.layout();
  const HeadFields& heads = partial_rope.heads();
  const std::int64_t kv_heads = heads.kv_heads, rope = layout.rope_width(), content = layout.content_width;
  const auto content_rows = [&](const at::Tensor& rows) {  // [heads, content width, …]
    return rows.detach().to(at::kDouble).unflatten(0, {heads.heads, rope + content}).narrow(1, rope, content);
  };
  const auto over_groups = [&](const at::Tensor& of_heads) {
    return of_heads.unflatten(0, {kv_heads, heads.group()}).sum(1);
  };
  if (content > 0) {
    const Linear& query = partial_rope.weights().query;
    const at::Tensor rows = content_rows(query.to_dense());
    at::Tensor moment = at::matmul(at::matmul(rows, problem.input_moment), rows.transpose(1, 2));
    if (query.bias().defined()) {  // E[(q + b)(q + b)^T]
      const at::Tensor bias = content_rows(query.bias()),
                       cross = at::matmul(rows, mean).unsqueeze(2) * bias.unsqueeze(1);
      moment = moment + cross + cross.transpose(1, 2) + bias.unsqueeze(2) * bias.unsqueeze(1);
    }
    problem.query_metric = over_groups(moment);
  }
  const at::Tensor output = partial_rope.weights().output.to_dense().detach().to(at::kDouble);
  const at::Tensor columns = output.unflatten(1, {heads.heads, layout.value_width}).permute({1, 2, 0});
  problem.output_metric = over_groups(at::matmul(columns, columns.transpose(1, 2)));
}

std::unique_ptr<LatentAttention> assemble_low_rank(const LatentAttention& partial_rope, const Factorization& factors,
                                                   std::optional<at::ScalarType> weights) {
  LatentLayout layout = partial_rope.layout();
  LatentAttention::Weights parts = partial_rope.weights();
  const at::ScalarType dtype = weights.value_or(parts.down.scalar_type());
  // Always copies: the factors may be views of a decomposition that other cells cut from, and these weights get
  // trained.
  const auto converted = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.to(dtype, /*non_blocking=*/false, /*copy=*/true).contiguous() : tensor;
  };
  layout.latent_width = factors.down.size(0);
  layout.key = factors.key;
  layout.value = factors.value;
  layout.key_up = factors.up_key.defined();
  layout.value_up = factors.up_value.defined();
  parts.down = Linear(converted(factors.down));
  parts.key_up = {converted(factors.up_key), parts.key_up.bias()};
  parts.value_up = {converted(factors.up_value), parts.value_up.bias()};
  return std::make_unique<LatentAttention>(partial_rope.frame(), partial_rope.heads(), std::move(layout),
                                           std::move(parts));
}

}  // namespace mla
