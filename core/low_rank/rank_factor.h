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
  SvdOptions svd;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("placement", self.placement, "factor that takes the singular values: up | sqrt (half to each) | down");
    visit("svd", self.svd, "how the singular values are computed");
  }
  /// Throws ConfigError for an unknown placement or method.
  void validate(const std::string& path) const;
};

/// W ~ up down with orthonormal down rows and up = W down^T: the projection of W's rows on its leading right singular
/// vectors (Eckart and Young). Placement `up`, as in the authors' code, leaves it so: the singular values are the
/// lengths of up's columns; `sqrt`, as in the paper's text, and `down` move half or all of them into down, the product
/// unchanged. The row blocks of W are for reporting errors by block.
class RankFactor {
 public:
  /// `blocks`: the matrices [rows, hidden] that W stacks, some possibly without rows.
  RankFactor(const std::vector<at::Tensor>& blocks, std::int64_t largest_rank, const RankFactorOptions& options);

  at::Tensor down(std::int64_t rank) const;                   ///< [rank, hidden]
  at::Tensor up(std::size_t block, std::int64_t rank) const;  ///< [rows of the block, rank]
  at::Tensor values(std::int64_t rank) const;                 ///< [rank] singular values, descending
  std::vector<double> value_list(std::int64_t rank) const;

  /// |block - up down|^2 in the Frobenius norm.
  double squared_error(std::size_t block, std::int64_t rank) const;

 private:
  struct Block {
    at::Tensor matrix, image;
    std::vector<double> kept;  // energy held by the leading 0, 1, 2, … directions
    double energy = 0;
  };
  /// What down's rows are multiplied and up's columns divided by, [rank].
  at::Tensor moved(std::int64_t rank) const;

  std::string placement_;
  at::Tensor right_, values_;
  std::vector<Block> blocks_;
};

/// Squared Frobenius norm, accumulated in float64.
double squared_norm(const at::Tensor& matrix);

/// Relative errors from the squared errors of K_nope and V.
FactorizationError relative_error(const at::Tensor& key, double key_error, const at::Tensor& value, double value_error);

}  // namespace mla
