// The best low-rank approximation of one matrix, decomposed once and cut to any rank, with its error in every row
// block.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/linalg/svd.h"
#include "core/low_rank/factorizer.h"

namespace mla {

/// How a factor pair is computed and written down. Part of a strategy's options: call fields() from its own.
struct RankFactorOptions {
  std::string placement = "up";
  std::string metric = "weights";
  double damping = 0.01;
  SvdOptions svd;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("placement", self.placement, "factor that takes the singular values: up | sqrt (half to each) | down");
    visit(
        "metric", self.metric,
        "what is to be close: weights (Frobenius norm) | outputs (keys and values, on calibration inputs) | attention "
        "(what these do to logits and to the layer's output)");
    visit("damping", self.damping,
          "outputs, attention: share of the inputs' mean energy that is added to each direction");
    visit("svd", self.svd, "how the singular values are computed");
  }
  bool needs_input_moment() const { return metric != "weights"; }
  bool needs_attention_metrics() const { return metric == "attention"; }
  /// Throws ConfigError for an unknown placement, metric or method.
  void validate(const std::string& path) const;
};

/// One of the matrices that are approximated together.
struct FactorBlock {
  at::Tensor matrix;      ///< [rows, hidden]
  at::Tensor row_metric;  ///< float64 [heads, width, width], what errors of a head's rows count; undefined: alike
};

/// W ~ up down of a given rank, as close as can be. By the metric "outputs" it minimises E|(W - up down) x|^2 over the
/// inputs x whose second moment C is given: with C = S S^T and W S = U diag(s) V^T, up = U diag(s) and down =
/// diag(1/s) U^T W, the projection of W's outputs on their principal directions (SVD-LLM, arXiv 2403.07378; any root S
/// gives the same product). A share of C's mean diagonal is added to it, so that directions which few calibration
/// tokens take count as well; the error on outputs is still at most that of the plain decomposition.
/// By "attention" the rows of each head are multiplied with a root of their metric first, and up with its inverse.
/// By the metric "weights":
/// W ~ up down with orthonormal down rows and up = W down^T: the projection of W's rows on its leading right singular
/// vectors (Eckart and Young). Placement `up`, as in the authors' code, leaves it so: the singular values are the
/// lengths of up's columns; `sqrt`, as in the paper's text, and `down` move half or all of them into down, the product
/// unchanged. The row blocks of W are for reporting errors by block.
class RankFactor {
 public:
  /// `blocks`: the matrices that W stacks, some possibly without rows. `input_moment`: C, [hidden, hidden], for the
  /// metrics that need it. `balanced`: each block is scaled so that its rows have the same mean norm by the metric as
  /// the last one's (TransMLA, arXiv 2502.07864), so that none is neglected for its unit.
  RankFactor(const std::vector<FactorBlock>& blocks, const at::Tensor& input_moment, std::int64_t largest_rank,
             const RankFactorOptions& options, bool balanced = false);

  at::Tensor down(std::int64_t rank) const;                   ///< [rank, hidden]
  at::Tensor up(std::size_t block, std::int64_t rank) const;  ///< [rows of the block, rank]
  at::Tensor values(std::int64_t rank) const;                 ///< [rank] singular values, descending
  std::vector<double> value_list(std::int64_t rank) const;

  /// |block - up down|^2 in the Frobenius norm.
  double squared_error(std::size_t block, std::int64_t rank) const;

  /// Squared norm of W by the metric, and what of it a rank leaves.
  double energy() const { return energy_; }
  double energy_left(std::int64_t rank) const;

 private:
  struct Block {
    at::Tensor matrix, image;
    std::vector<double> kept;  // energy held by the leading 0, 1, 2, … directions
    double energy = 0;
  };
  /// What down's rows are multiplied and up's columns divided by, [rank].
  at::Tensor moved(std::int64_t rank) const;

  std::string placement_;
  bool orthonormal_ = true;  ///< down's rows, where they hold no singular values
  at::Tensor right_, values_;
  std::vector<Block> blocks_;
  double energy_ = 0;
};

/// Squared Frobenius norm, accumulated in float64.
double squared_norm(const at::Tensor& matrix);

/// sqrt(error / energy), 0 of nothing: errors by a decomposition's own measure.
double relative(double error, double energy);

/// Relative errors from the squared errors of K_nope and V.
FactorizationError relative_error(const at::Tensor& key, double key_error, const at::Tensor& value, double value_error);

}  // namespace mla
