#include "core/compress/mean_key/score_fit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/model/model_spec.h"
#include "core/ops/rotary_embedding.h"

namespace mla {
namespace {

constexpr const char* kQueryMaps = "q_up_proj.weight";
/// Of a layer's weights and logits at most: they grow with the square of a row's length.
constexpr double kMostBytes = 2e9;

at::Tensor exactly(const at::Tensor& x) { return x.detach().to(at::kCPU, at::kDouble); }

/// What the layer's queries are made of: slots, then the position's part, then what is not rotated.
class QueryLayout {
 public:
  QueryLayout(const Attention& attention, const Decoder& decoder, std::int64_t length) {
    const Json fields = attention.spec()->fields();
    const auto slots = fields["slots"].get<std::vector<std::int64_t>>();
    const RotaryTable table =
        decoder.spec().rotary(rope_use(*attention.spec())).table(0, length, length, at::TensorOptions(at::kDouble));
    const at::Tensor chosen = at::tensor(slots, at::kLong);
    parts_.push_back({table.cosine.index_select(1, chosen), table.sine.index_select(1, chosen)});
    if (fields["position"].get<bool>()) parts_.push_back(table);
  }

  /// x [rows, heads, queries, width] turned by the queries' positions, or back.
  at::Tensor turn(const at::Tensor& x, const at::Tensor& positions, bool back) const {
    std::vector<at::Tensor> all;
    std::int64_t begin = 0;
    for (const RotaryTable& part : parts_) {
      const at::Tensor cosine = part.cosine.index_select(0, positions), sine = part.sine.index_select(0, positions);
      const std::int64_t width = 2 * cosine.size(1);
      all.push_back(rotate_heads(x.narrow(-1, begin, width), cosine, back ? -sine : sine));
      begin += width;
    }
    all.push_back(x.narrow(-1, begin, x.size(-1) - begin));
    return at::cat(all, -1);
  }

 private:
  std::vector<RotaryTable> parts_;
};

/// Some rows of equal length: n queries, T keys.
struct ScoreBatch {
  at::Tensor positions;  ///< [n]
  at::Tensor queries;    ///< [rows, heads, n, head_dim], before rotation
  at::Tensor keys;       ///< [rows, 1, T, width]
  at::Tensor weights;    ///< [rows, heads, n, T]: the source's
  at::Tensor wanted;     ///< likewise: logits of the source
};

/// The quadratic form, for maps [heads, width, head_dim].
class ScoreProblem {
 public:
  ScoreProblem(double scale, double damping) : scale_(scale), damping_(damping) {}

  void add(const QueryLayout& layout, ScoreBatch batch) { batches_.emplace_back(layout, std::move(batch)); }

  /// The best maps, from `start` on.
  at::Tensor solve(const at::Tensor& start, std::int64_t iterations) {
    prepare(start);
    at::Tensor found = at::zeros_like(start), residual = gradient(start, true), direction, product;
    for (std::int64_t i = 0; i < iterations; ++i) {
      const at::Tensor better = preconditioned(residual), now = inner(residual, better);
      direction = i == 0 ? better : better + direction * (now / product);
      product = now;
      const at::Tensor curved = gradient(direction, false) + held_ * direction;
      const at::Tensor curvature = inner(direction, curved);
      const at::Tensor step = at::where(curvature > 0, now / curvature.clamp_min(1e-300), at::zeros_like(now));
      found += step * direction;
      residual = residual - step * curved;
    }
    return start + found;
  }

 private:
  static at::Tensor inner(const at::Tensor& a, const at::Tensor& b) {
    return (a * b).sum(at::IntArrayRef({1, 2}), true).clamp_min(1e-300);
  }
  static at::Tensor centred(const at::Tensor& x, const at::Tensor& weights) { return x - (x * weights).sum(-1, true); }

  /// The form's product with `maps`, or, for `missing`, the way from its value there down.
  at::Tensor gradient(const at::Tensor& maps, bool missing) const {
    at::Tensor sum = at::zeros_like(maps);
    for (const auto& [layout, batch] : batches_) {
      const at::Tensor asked = layout.turn(at::matmul(batch.queries, maps.transpose(1, 2)), batch.positions, false);
      at::Tensor logits = at::matmul(asked, batch.keys.transpose(2, 3)) * scale_;
      if (missing) logits = batch.wanted - logits;
      const at::Tensor pulled = at::matmul(batch.weights * centred(logits, batch.weights), batch.keys) * scale_;
      sum += at::matmul(layout.turn(pulled, batch.positions, true).transpose(2, 3), batch.queries).sum(0);
    }
    return sum;
  }

  /// The form is about the product of queries' and keys' moments; the keys' from a few queries.
  void prepare(const at::Tensor& start) {
    const std::int64_t heads = start.size(0), width = start.size(1), dims = start.size(2);
    at::Tensor queries = at::zeros({heads, dims, dims}, start.options());
    at::Tensor keys = at::zeros({heads, width, width}, start.options());
    double seen = 0;
    for (const auto& [layout, batch] : batches_) {
      queries += at::matmul(batch.queries.transpose(2, 3), batch.queries).sum(0);
      const std::int64_t count = batch.positions.size(0);
      for (const std::int64_t at : {count / 4, 3 * count / 4}) {
        const at::Tensor weights = batch.weights.select(2, at).unsqueeze(3);  // [rows, heads, T, 1]
        const at::Tensor position = batch.positions.narrow(0, at, 1).expand({batch.keys.size(2)});
        const at::Tensor shown = layout.turn(batch.keys, position, true);
        const at::Tensor away = shown - (shown * weights).sum(2, true);
        keys += at::matmul((away * weights).transpose(2, 3), away).sum(0);
        seen += static_cast<double>(batch.keys.size(0));
      }
    }
    keys *= scale_ * scale_ / seen;
    std::tie(query_values_, query_vectors_) = at::linalg_eigh(queries);
    std::tie(key_values_, key_vectors_) = at::linalg_eigh(keys);
    held_ = damping_ * (query_values_.mean(1) * key_values_.mean(1)).view({-1, 1, 1}).clamp_min(1e-300);
  }

  at::Tensor preconditioned(const at::Tensor& x) const {
    const at::Tensor inside = at::matmul(at::matmul(key_vectors_.transpose(1, 2), x), query_vectors_);
    const at::Tensor curvature = key_values_.clamp_min(0).unsqueeze(2) * query_values_.clamp_min(0).unsqueeze(1);
    return at::matmul(at::matmul(key_vectors_, inside / (curvature + held_)), query_vectors_.transpose(1, 2));
  }

  double scale_, damping_;
  std::vector<std::pair<QueryLayout, ScoreBatch>> batches_;
  at::Tensor query_values_, query_vectors_, key_values_, key_vectors_, held_;
};

/// What the layer itself makes queries and keys of.
std::pair<at::Tensor, at::Tensor> asked_and_held(const Attention& attention, const Decoder& decoder,
                                                 const at::Tensor& input) {
  at::Tensor queries, keys;
  const Observer observer{{Tap::kQuery, Tap::kKeyRotated}, [&](Tap tap, std::int64_t, const at::Tensor& tensor) {
                            (tap == Tap::kQuery ? queries : keys) = tensor;
                          }};
  ForwardContext context = decoder.context(input.size(1));
  context.turn(rope_use(*attention.spec()));
  context.observer = &observer;
  attention.forward(input, context);
  return {queries, keys};
}

/// The source's logits and weights of some queries; q and k rotated.
void add_source(ScoreBatch& batch, const at::Tensor& q, const at::Tensor& k, double scale, std::int64_t window) {
  const at::Tensor queries = exactly(q).index_select(2, batch.positions);
  const at::Tensor keys = exactly(k).repeat_interleave(q.size(1) / k.size(1), 1);
  batch.wanted = at::matmul(queries, keys.transpose(2, 3)) * scale;
  const at::Tensor at = batch.positions.unsqueeze(1), of = at::arange(k.size(2), batch.positions.options());
  at::Tensor hidden = of > at;
  if (window > 0) hidden = hidden.logical_or(of <= at - window);
  batch.weights = batch.wanted.masked_fill(hidden, -std::numeric_limits<double>::infinity()).softmax(-1);
}

}  // namespace

TokenRowList affordable_rows(const ModelSpec& source, const TokenRowList& rows, const ScoreFitOptions& options,
                             double most_bytes) {
  std::int64_t heads = 0;
  for (std::int64_t layer = 0; layer < source.layer_count(); ++layer) {
    if (const auto fields = source.attention(layer).heads()) heads = std::max(heads, fields->heads);
  }
  TokenRowList read = first_rows(rows, options.rows);
  double bytes = 0;
  for (std::size_t i = 0; i < read.size(); ++i) {
    const auto length = std::ssize(read[i]), queries = (length + options.stride - 1) / options.stride;
    bytes += 2.0 * sizeof(double) * static_cast<double>(heads * queries * length);
    if (bytes <= most_bytes || i == 0) continue;
    log_info(cat("scores: ", i, " of ", read.size(), " rows are read, which take ", most_bytes / 1e9,
                 " GB; shorter rows or a larger stride allow more"));
    read.resize(i);
  }
  return read;
}

ScoreFit::ScoreFit(Decoder& decoder, const Decoder& source, const TokenRowList& rows, ScoreFitOptions options)
    : decoder_(decoder),
      theirs_(source, affordable_rows(source.spec(), rows, options, kMostBytes), {}),
      options_(options) {}

void ScoreFitOptions::validate(const std::string& path) const {
  if (rows < 0) throw ConfigError(cat(path, ".rows = ", rows, ": must not be negative"));
  check_at_least_one(path + ".stride", stride);
  check_at_least_one(path + ".iterations", iterations);
  if (!(damping > 0)) throw ConfigError(cat(path, ".damping = ", damping, ": must be more than 0"));
}

void ScoreFit::next() {
  const at::NoGradGuard off;
  const auto layer = static_cast<std::size_t>(theirs_.layer());
  std::map<Tap, std::vector<at::Tensor>> seen;
  theirs_.advance({Tap::kAttentionInput, Tap::kQueryRotated, Tap::kKeyRotated},
                  [&](std::size_t, Tap tap, const at::Tensor& tensor) { seen[tap].push_back(tensor); });
  Attention& attention = *decoder_.layers[layer].attention;
  expects(attention.spec()->fields().contains("slots"), "queries of mean-key layers are fitted");
  const HeadFields heads = *attention.spec()->heads();
  const double scale = softmax_scale(decoder_.spec(), heads);
  ScoreProblem problem(scale, options_.damping);
  for (std::size_t i = 0; i < seen[Tap::kAttentionInput].size(); ++i) {
    const at::Tensor& input = seen[Tap::kAttentionInput][i];
    const std::int64_t length = input.size(1), first = std::min(options_.stride, length) - 1;
    const auto [queries, keys] = asked_and_held(attention, decoder_, input);
    ScoreBatch batch;
    batch.positions = at::arange(first, length, options_.stride);
    batch.queries = exactly(queries).index_select(2, batch.positions);
    batch.keys = exactly(keys).narrow(1, 0, 1);
    add_source(batch, seen[Tap::kQueryRotated][i], seen[Tap::kKeyRotated][i], scale, heads.window);
    problem.add(QueryLayout(attention, decoder_, length), std::move(batch));
  }
  attention.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name != kQueryMaps) return;
    const at::Tensor start = exactly(tensor).view({heads.heads, -1, heads.head_dim});
    tensor = problem.solve(start, options_.iterations).flatten(0, 1).to(tensor.options()).contiguous();
  });
}

}  // namespace mla
