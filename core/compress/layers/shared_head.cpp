#include "core/compress/layers/shared_head.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "core/compress/layers/head_weights.h"

namespace mla {
namespace {

/// Share of the inputs' mean energy that is added to each of their directions.
constexpr double kDamping = 1e-4;
/// Below this share of the largest one an eigenvalue counts as zero.
constexpr double kNothing = 1e-12;

at::Tensor with_bias(const at::Tensor& matrix, const at::Tensor& bias) {
  return at::cat({matrix, bias.defined() ? bias.unsqueeze(1) : at::zeros({matrix.size(0), 1}, matrix.options())}, 1);
}

/// 1/x, 0 for what is as good as zero.
at::Tensor pseudo_inverse(const at::Tensor& x, double nothing) {
  return at::where(x > nothing, 1 / x, at::zeros_like(x));
}

struct SymmetricRoots {
  at::Tensor root, inverse;
};

/// Symmetric roots of positive semidefinite matrices [..., n, n], and their pseudo-inverses.
SymmetricRoots roots_of(const at::Tensor& matrices) {
  const auto [squares, vectors] = at::linalg_eigh(matrices);
  const at::Tensor values = squares.clamp_min(0).sqrt();
  const double nothing = values.max().item<double>() * kNothing;
  const auto made = [&](const at::Tensor& diagonal) {
    return at::matmul(vectors * diagonal.unsqueeze(-2), vectors.transpose(-2, -1));
  };
  return {made(values), made(pseudo_inverse(values, nothing))};
}

/// The pairs of heads [heads * width, n] as complex numbers, [heads, width / 2, n].
at::Tensor complex_pairs(const at::Tensor& rows, std::int64_t heads) {
  const at::Tensor halves = rows.view({heads, 2, -1, rows.size(1)});
  return at::complex(halves.select(1, 0).contiguous(), halves.select(1, 1).contiguous());
}

/// And back, [heads, pairs, n] to [heads * 2 * pairs, n].
at::Tensor real_rows(const at::Tensor& pairs) {
  return at::stack({at::real(pairs), at::imag(pairs)}, 1).reshape({-1, pairs.size(-1)});
}

/// E|row x|^2 of each row of complex [..., n].
at::Tensor pair_energies(const at::Tensor& rows, const at::Tensor& moment) {
  return at::real(at::matmul(rows, moment.to(rows.scalar_type())) * rows.conj()).sum(-1).clamp_min(0);
}

void expect_finite(const at::Tensor& moment) {
  if (!moment.isfinite().all().item<bool>()) throw DataError("the moments of a layer's inputs are not finite");
}

/// Every KV head's pairs as they are: the query of a head is zero but in those of its KV head.
SharedKey all_keys(const BiasedWeights& source, const at::Tensor& moment) {
  const HeadFields& heads = source.heads;
  const std::int64_t half = heads.head_dim / 2, inputs = source.key.size(1);
  const at::Tensor keys = complex_pairs(source.key, heads.kv_heads);
  SharedKey all;
  all.energy = pair_energies(keys, moment).flatten();
  all.keys.all = all.energy.sum().item<double>();
  all.key = real_rows(keys.reshape({1, heads.kv_heads * half, inputs}));
  at::Tensor queries = at::zeros({heads.heads, heads.kv_heads, half, inputs}, keys.options());
  const at::Tensor own = complex_pairs(source.query, heads.heads);
  for (std::int64_t head = 0; head < heads.heads; ++head) queries[head][head / heads.group()].copy_(own[head]);
  all.query = real_rows(queries.view({heads.heads, heads.kv_heads * half, inputs}));
  for (std::int64_t i = 0; i < heads.kv_heads * half; ++i) all.pairs.push_back(i % half);
  return all;
}

/// Numbers of the largest of `values`, ascending by place; of equals the first.
std::vector<std::int64_t> largest_of(const at::Tensor& values, std::int64_t count) {
  const at::Tensor flat = values.flatten().to(at::kCPU).contiguous();
  const double* data = flat.const_data_ptr<double>();
  std::vector<std::int64_t> order(static_cast<std::size_t>(flat.numel()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return data[a] > data[b]; });
  order.resize(static_cast<std::size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

/// Directions of all KV heads' values, as the output projection weighs them.
struct ValueDirections {
  at::Tensor rows;    ///< [width, hidden + 1], what gives the coordinates
  at::Tensor spread;  ///< [kv_width, width], values of coordinates
  double lost = 0;
};

/// The roots of sum O_h^T O_h over the heads of each KV head: [kv_heads, head_dim, head_dim].
SymmetricRoots output_roots(const BiasedWeights& source) {
  const HeadFields& heads = source.heads;
  const at::Tensor by_head = source.output.view({-1, heads.kv_heads, heads.group(), heads.head_dim});
  return roots_of(at::einsum("okgd,okge->kde", {by_head, by_head}));
}

/// [kv_heads * head_dim, n], each KV head's rows multiplied with its matrix.
at::Tensor rows_by_head(const at::Tensor& maps, const at::Tensor& rows) {
  return at::matmul(maps, rows.reshape({maps.size(0), maps.size(1), rows.size(1)})).view(rows.sizes());
}

ValueDirections value_directions(const SymmetricRoots& metric, const at::Tensor& values, const at::Tensor& moment,
                                 std::int64_t width) {
  const at::Tensor weighed = rows_by_head(metric.root, values);
  const auto [energy, vectors] = at::linalg_eigh(at::linalg_multi_dot({weighed, moment, weighed.t()}));
  const std::int64_t all = energy.size(0);
  const at::Tensor basis = vectors.narrow(1, all - width, width).flip({1});
  // Coordinates as large as values are, whatever the output projection makes of them.
  const at::Tensor scale = rows_by_head(metric.root, basis).norm(2, {0}).clamp_min(1e-30);
  return {at::mm((basis / scale).t(), weighed), rows_by_head(metric.inverse, basis * scale),
          energy.narrow(0, 0, all - width).clamp_min(0).sum().item<double>()};
}

/// The key with pairs of another size, and queries that meet them as before: between the size that the key has and that
/// of the values which are read from it, halfway by ratio. Adam moves all weights alike, and a weight's change counts
/// as much as what it multiplies is large: maps that read values from a key of ten times their size would be moved ten
/// times as far as they were trained for, and queries that meet a key of the values' size likewise.
SharedKey sized_for_values(SharedKey key, const BiasedWeights& source, const at::Tensor& moment) {
  const double values =
      (at::mm(source.value, moment) * source.value).sum(1).mean().clamp_min(1e-60).sqrt().item<double>();
  const at::Tensor factors = ((key.energy / 2).sqrt() / values).sqrt();  // of the mean square of an element
  const at::Tensor divided = at::where(factors > kNothing, factors, at::ones_like(factors));
  const at::Tensor rows = divided.repeat({2}).unsqueeze(1);
  key.key = key.key / rows;
  key.query = key.query * rows.repeat({source.heads.heads, 1});
  key.energy = key.energy / divided.square();
  return key;
}

double weighed_energy(const SymmetricRoots& metric, const at::Tensor& values, const at::Tensor& moment) {
  const at::Tensor weighed = rows_by_head(metric.root, values);
  return (at::mm(weighed, moment) * weighed).sum().item<double>();
}

}  // namespace

BiasedWeights biased_weights(const GroupedQueryAttention& attention) {
  const HeadWeights weights = head_weights(attention);
  const HeadFields& heads = attention.heads();
  return {heads,
          heads.kv_heads * heads.head_dim,
          with_bias(weights.query, weights.query_bias),
          with_bias(weights.key, weights.key_bias),
          with_bias(weights.value, weights.value_bias),
          weights.output};
}

at::Tensor biased_moment(const at::Tensor& second_moment, const at::Tensor& mean) {
  expect_finite(second_moment);
  at::Tensor damped = second_moment.clone();
  const double energy = damped.diagonal().mean().item<double>();
  damped.diagonal().add_(energy > 0 ? kDamping * energy : 1.0);
  const at::Tensor column = mean.unsqueeze(1);
  return at::cat({at::cat({damped, column}, 1), at::cat({column.t(), at::ones({1, 1}, column.options())}, 1)});
}

at::Tensor equal_moment(std::int64_t hidden) { return at::eye(hidden + 1, at::kDouble); }

SharedKey shared_key(const BiasedWeights& source, const at::Tensor& moment, std::int64_t pairs) {
  const HeadFields& heads = source.heads;
  const std::int64_t half = heads.head_dim / 2;
  if (pairs == heads.kv_heads * half) return all_keys(source, moment);
  const at::Tensor keys = complex_pairs(source.key, heads.kv_heads).transpose(0, 1);  // [half, kv_heads, n]
  const at::Tensor queries = complex_pairs(source.query, heads.heads);                // [heads, half, n]
  const at::Tensor sizes =
      pair_energies(queries, moment).view({heads.kv_heads, heads.group(), half}).sum(1).t().sqrt();  // [half, kv_heads]
  const at::Tensor inverse_sizes = pseudo_inverse(sizes, sizes.max().item<double>() * kNothing);
  const at::Tensor weighed = keys * sizes.unsqueeze(2);
  const at::Tensor gram =
      at::matmul(at::matmul(weighed, moment.to(weighed.scalar_type())), weighed.conj().transpose(1, 2));
  const auto [values, vectors] = at::linalg_eigh(gram);  // ascending [half, kv_heads], vectors in columns
  const at::Tensor energy = values.clamp_min(0);
  const std::vector<std::int64_t> kept = largest_of(energy, pairs);

  SharedKey shared;
  shared.keys.all = energy.sum().item<double>();
  std::vector<at::Tensor> key_rows, query_rows;
  shared.energy = at::zeros({pairs}, energy.options());
  for (std::int64_t i = 0; i < pairs; ++i) {
    const std::int64_t frequency = kept[static_cast<std::size_t>(i)] / heads.kv_heads,
                       place = kept[static_cast<std::size_t>(i)] % heads.kv_heads;
    const at::Tensor direction = vectors[frequency].select(1, place).conj();
    const at::Tensor of_keys = direction * sizes[frequency];
    // A key as large as those that it stands for.
    const double scale = std::max(of_keys.abs().square().sum().sqrt().item<double>(), 1e-30);
    key_rows.push_back(at::mv(keys[frequency].t(), of_keys / scale));
    const at::Tensor of_queries = (direction * inverse_sizes[frequency] * scale).repeat_interleave(heads.group());
    query_rows.push_back(queries.select(1, frequency) * of_queries.unsqueeze(1));
    shared.pairs.push_back(frequency);
    shared.energy[i] = energy[frequency][place] / (scale * scale);
    shared.keys.lost -= energy[frequency][place].item<double>();
  }
  shared.keys.lost = std::max(0.0, shared.keys.lost + shared.keys.all);
  shared.key = real_rows(at::stack(key_rows).unsqueeze(0));
  shared.query = real_rows(at::stack(query_rows, 1));
  return shared;
}

SharedValue shared_value(const BiasedWeights& source, const at::Tensor& moment, std::int64_t width) {
  const HeadFields& heads = source.heads;
  const SymmetricRoots metric = output_roots(source);
  SharedValue shared;
  shared.values.all = weighed_energy(metric, source.value, moment);
  if (width == source.kv_width) {
    shared.value = source.value;
    shared.output = absorb_directions(source.output, at::eye(width, source.output.options()), heads);
    return shared;
  }
  const ValueDirections kept = value_directions(metric, source.value, moment, width);
  shared.value = kept.rows;
  shared.output = absorb_directions(source.output, kept.spread, heads);
  shared.values.lost = kept.lost;
  return shared;
}

ReusedKey reused_key(const BiasedWeights& source, const at::Tensor& moment, const SharedKey& shared, std::int64_t width,
                     std::int64_t slowest_pair) {
  const HeadFields& heads = source.heads;
  const SharedKey key = sized_for_values(shared, source, moment);
  const auto pairs = std::ssize(key.pairs), more = width / 2 - pairs;
  const SymmetricRoots metric = output_roots(source);
  const at::Tensor of_keys = at::mm(key.key, moment);
  const at::Tensor regression = at::linalg_multi_dot(
      {source.value, of_keys.t(), at::linalg_pinv(at::mm(of_keys, key.key.t()), kNothing, /*hermitian=*/true)});
  const ValueDirections left = value_directions(metric, source.value - at::mm(regression, key.key), moment, 2 * more);

  /// [.., 2 * pairs] and [.., 2 * more] in a dim, in the order of the whole key's elements.
  const auto interleaved = [&](const at::Tensor& of_pairs, const at::Tensor& of_more, std::int64_t dim) {
    return at::cat({of_pairs.narrow(dim, 0, pairs), of_more.narrow(dim, 0, more), of_pairs.narrow(dim, pairs, pairs),
                    of_more.narrow(dim, more, more)},
                   dim);
  };
  ReusedKey reused;
  reused.pairs = key.pairs;
  reused.pairs.resize(static_cast<std::size_t>(width / 2), slowest_pair);
  reused.key = interleaved(key.key, left.rows, 0);
  const at::Tensor queries = key.query.view({heads.heads, 2 * pairs, -1});
  reused.query =
      interleaved(queries, at::zeros({heads.heads, 2 * more, queries.size(2)}, queries.options()), 1).flatten(0, 1);
  reused.energy = at::cat({key.energy, at::zeros({more}, key.energy.options())});
  reused.output = absorb_directions(source.output, interleaved(regression, left.spread, 1), heads);
  reused.values = {weighed_energy(metric, source.value, moment), left.lost};
  return reused;
}

FactoredQueries factored_queries(const at::Tensor& query, const at::Tensor& pair_energy, const at::Tensor& moment,
                                 std::int64_t rank) {
  const std::int64_t inputs = moment.size(0) - 1, heads = query.size(0) / (2 * pair_energy.size(0));
  const at::Tensor size = pair_energy.sqrt();
  // Nothing is given up for good where keys are small on this data.
  const at::Tensor weight = size.clamp_min(1e-3 * size.max().item<double>() + 1e-30).repeat({2 * heads}).unsqueeze(1);
  const at::Tensor root = roots_of(moment.narrow(0, 0, inputs).narrow(1, 0, inputs)).root;
  const at::Tensor weighed = query * weight;
  const auto [left, values, right] = at::linalg_svd(at::mm(weighed, root), /*full_matrices=*/false);
  const at::Tensor basis = left.narrow(1, 0, rank);
  return {at::mm(basis.t(), weighed), basis / weight};
}

}  // namespace mla
