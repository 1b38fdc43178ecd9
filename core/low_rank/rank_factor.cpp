#include "core/low_rank/rank_factor.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/low_rank/factor_choices.h"

namespace mla {
namespace {

// Below this share of a block's energy the difference of energies is mostly rounding, and the error is computed
// directly.
constexpr double kDirectBelow = 1e-4;

std::vector<double> to_list(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

/// Energy of the leading 0, 1, 2, … columns.
std::vector<double> leading_energies(const at::Tensor& columns) {
  std::vector<double> sums{0.0};
  for (const double energy : to_list(at::sum(columns.square(), at::IntArrayRef{0}, false, at::kDouble))) {
    sums.push_back(sums.back() + energy);
  }
  return sums;
}

// Share of a row metric's mean diagonal that is added to it, so that its root can be inverted.
constexpr double kMetricDamping = 1e-6;

/// A symmetric root of the damped second moment, in float64.
at::Tensor damped_root(const at::Tensor& moment, double damping) {
  const at::Tensor wide = moment.to(at::kDouble);
  const double mean = wide.diagonal().mean().item<double>();
  const auto [values, vectors] = at::linalg_eigh(wide + at::eye(wide.size(0), wide.options()) * (damping * mean));
  return at::mm(vectors * values.clamp_min(0).sqrt(), vectors.t());
}

/// Roots of each head's metric, [heads, width, width], and their inverses. A head that counts for nothing counts as if
/// its rows were alike.
struct MetricRoots {
  at::Tensor root, inverse;
};
MetricRoots metric_roots(const at::Tensor& metric) {
  const at::Tensor mean = metric.diagonal(0, 1, 2).mean(-1).view({-1, 1, 1});
  const at::Tensor unit = at::eye(metric.size(1), metric.options());
  const auto [values, vectors] = at::linalg_eigh(at::where(mean > 0, metric + unit * (kMetricDamping * mean), unit));
  const at::Tensor sizes = values.clamp_min(1e-300).sqrt().unsqueeze(1);
  return {at::matmul(vectors * sizes, vectors.transpose(1, 2)), at::matmul(vectors / sizes, vectors.transpose(1, 2))};
}

/// A matrix [heads, width, width] for each head's rows of [heads * width, columns].
at::Tensor by_head(const at::Tensor& matrices, const at::Tensor& rows) {
  const at::Tensor heads = rows.to(at::kDouble).reshape({matrices.size(0), matrices.size(1), rows.size(1)});
  return at::bmm(matrices, heads).flatten(0, 1).to(rows.scalar_type());
}

double mean_row_norm(const at::Tensor& rows) {
  return rows.size(0) > 0 ? rows.to(at::kDouble).norm(2, 1).mean().item<double>() : 0;
}

}  // namespace

const std::vector<std::string>& factor_placements() {
  static const std::vector<std::string> names{"up", "sqrt", "down"};
  return names;
}

const std::vector<std::string>& factor_metrics() {
  static const std::vector<std::string> names{"weights", "outputs", "attention"};
  return names;
}

void RankFactorOptions::validate(const std::string& path) const {
  const std::vector<std::string>& known = factor_placements();
  if (std::find(known.begin(), known.end(), placement) == known.end()) {
    throw ConfigError(cat(path, ".placement: ", unknown_name(placement, known)));
  }
  const std::vector<std::string>& metrics = factor_metrics();
  if (std::find(metrics.begin(), metrics.end(), metric) == metrics.end()) {
    throw ConfigError(cat(path, ".metric: ", unknown_name(metric, metrics)));
  }
  if (!(damping >= 0)) throw ConfigError(cat(path, ".damping = ", damping, ": must not be negative"));
  svd.validate(path + ".svd");
}

RankFactor::RankFactor(const std::vector<FactorBlock>& blocks, const at::Tensor& input_moment,
                       std::int64_t largest_rank, const RankFactorOptions& options, bool balanced)
    : placement_(options.placement), orthonormal_(!options.needs_input_moment()) {
  expects(orthonormal_ || input_moment.defined(), "this metric needs the second moment of inputs");
  const at::Device device = blocks.front().matrix.device();
  const at::Tensor root = orthonormal_ ? at::Tensor() : damped_root(input_moment.to(device), options.damping);
  std::vector<at::Tensor> weighted, measured;  // rows as they count, and the same on the inputs as they come
  std::vector<MetricRoots> metrics;
  for (const FactorBlock& block : blocks) {
    const bool metric = options.needs_attention_metrics() && block.matrix.size(0) > 0;
    expects(!metric || block.row_metric.defined(), "this metric needs those of the rows");
    metrics.push_back(metric ? metric_roots(block.row_metric.to(device)) : MetricRoots{});
    weighted.push_back(metric ? by_head(metrics.back().root, block.matrix) : block.matrix);
    measured.push_back(orthonormal_ ? weighted.back()
                                    : at::mm(weighted.back().to(at::kDouble), root).to(block.matrix.scalar_type()));
  }
  std::vector<double> scales(blocks.size(), 1.0);
  if (balanced) {
    const double wanted = mean_row_norm(measured.back());
    for (std::size_t i = 0; i + 1 < blocks.size(); ++i) {
      const double norm = mean_row_norm(measured[i]);
      if (!(norm > 0) || !(wanted > 0)) continue;
      scales[i] = wanted / norm;
      weighted[i] = weighted[i] * scales[i];
      measured[i] = measured[i] * scales[i];
    }
  }
  const at::Tensor all = at::cat(measured);
  const RowProjection projection = project_rows(all, largest_rank, options.svd);
  values_ = projection.values;
  energy_ = squared_norm(all);
  if (orthonormal_) {
    right_ = projection.right;
  } else {
    // diag(1/s) U^T W, of image = U diag(s); a direction without energy keeps nothing.
    const at::Tensor squares = values_.square();
    right_ =
        at::mm(projection.image.t(), at::cat(weighted)) * at::where(squares > 0, squares.reciprocal(), 0).unsqueeze(1);
  }
  std::int64_t row = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const at::Tensor& matrix = blocks[i].matrix;
    at::Tensor image = projection.image.narrow(0, row, matrix.size(0));
    if (scales[i] != 1.0) image = image / scales[i];
    if (metrics[i].inverse.defined()) image = by_head(metrics[i].inverse, image);
    blocks_.push_back({matrix, image, leading_energies(image), squared_norm(matrix)});
    row += matrix.size(0);
  }
}

at::Tensor RankFactor::moved(std::int64_t rank) const {
  return placement_ == "sqrt" ? values(rank).sqrt() : values(rank);
}

at::Tensor RankFactor::down(std::int64_t rank) const {
  const at::Tensor rows = right_.narrow(0, 0, rank);
  return placement_ == "up" ? rows : rows * moved(rank).unsqueeze(1);
}

at::Tensor RankFactor::up(std::size_t block, std::int64_t rank) const {
  const at::Tensor columns = blocks_.at(block).image.narrow(1, 0, rank);
  if (placement_ == "up") return columns;
  const at::Tensor scale = moved(rank);
  return columns * at::where(scale > 0, scale.reciprocal(), 0);  // no direction, nothing to scale
}

at::Tensor RankFactor::values(std::int64_t rank) const { return values_.narrow(0, 0, rank); }

std::vector<double> RankFactor::value_list(std::int64_t rank) const { return to_list(values(rank)); }

double RankFactor::squared_error(std::size_t index, std::int64_t rank) const {
  const Block& block = blocks_.at(index);
  const auto product = [&] { return at::mm(block.image.narrow(1, 0, rank), right_.narrow(0, 0, rank)); };
  if (!orthonormal_) return squared_norm(block.matrix - product());
  // W down^T down is an orthogonal projection of W's rows, so that energies subtract, in each row alone.
  const double left = block.energy - block.kept.at(static_cast<std::size_t>(rank));
  if (left >= kDirectBelow * block.energy) return left;
  return squared_norm(block.matrix - product());
}

double RankFactor::energy_left(std::int64_t rank) const {
  std::int64_t rows = 0;
  for (const Block& block : blocks_) rows += block.matrix.size(0);
  const std::int64_t known = values_.size(0);
  if (known < std::min(rows, right_.size(1))) return std::max(energy_ - squared_norm(values(rank)), 0.0);
  // Near full rank the difference of two large sums would be nothing but their rounding.
  return squared_norm(values_.narrow(0, rank, known - rank));
}

double relative(double error, double energy) { return energy > 0 ? std::sqrt(error / energy) : 0; }

double squared_norm(const at::Tensor& matrix) { return at::sum(matrix.square(), at::kDouble).item<double>(); }

FactorizationError relative_error(const at::Tensor& key, double key_error, const at::Tensor& value,
                                  double value_error) {
  const double key_energy = squared_norm(key), value_energy = squared_norm(value);
  return {relative(key_error + value_error, key_energy + value_energy), relative(key_error, key_energy),
          relative(value_error, value_energy)};
}

}  // namespace mla
