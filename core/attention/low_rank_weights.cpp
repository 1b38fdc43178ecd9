// Linear maps whose matrix is the product of two factors.
#include <ATen/ATen.h>

#include "core/attention/linear.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/ops/thin_linear.h"

namespace mla {
namespace {

enum LowRankFactor : std::size_t { kDownFactor, kUpFactor };

struct LowRankWeightsOptions {
  std::int64_t rank = 1;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("rank", self.rank, "columns of the up factor, rows of the down factor");
  }

  void validate(const std::string& path) const {
    if (rank < 1) throw ConfigError(cat(path, ".rank = ", rank, ": must be at least 1"));
  }
};

/// W = up down with up [rows, rank] and down [rank, columns].
class LowRankWeights final : public WeightStorage {
 public:
  using Options = LowRankWeightsOptions;
  explicit LowRankWeights(Options options) : options_(options) {}

  std::string kind() const override { return "low_rank"; }
  Json fields() const override { return write_fields(options_); }
  std::string description() const override { return cat("factors of rank ", options_.rank); }

  void check(const MatrixShape& shape, const std::string& where) const override {
    if (options_.rank > std::min(shape.rows, shape.columns)) {
      throw ConfigError(cat(where, ".rank = ", options_.rank, ": a matrix of ", shape.rows, " x ", shape.columns,
                            " has a rank of at most ", std::min(shape.rows, shape.columns)));
    }
  }

  std::vector<StoredPart> parts(const MatrixShape& shape) const override {
    return {{"down.weight", {options_.rank, shape.columns}, {}}, {"up.weight", {shape.rows, options_.rank}, {}}};
  }

  void expect_valid(const std::vector<at::Tensor>& parts, const MatrixShape&, const std::string& where) const override {
    for (const at::Tensor& part : parts) {
      if (!part.isfinite().all().item<bool>()) throw DataError(cat(where, ": holds NaN or infinite values"));
    }
  }

  at::Tensor dense(const std::vector<at::Tensor>& parts, const MatrixShape&) const override {
    return at::matmul(parts.at(kUpFactor), parts.at(kDownFactor));
  }

  bool is_factored() const override { return true; }

  at::Tensor multiply(const std::vector<at::Tensor>& parts, const at::Tensor& x) const override {
    return linear_rows(linear_rows(x, matching(parts.at(kDownFactor), x)), matching(parts.at(kUpFactor), x));
  }

 private:
  Options options_;
};

const Registration<WeightStorage, LowRankWeights> kLowRankWeights(
    "low_rank", "the product of two factors: NAME.down.weight, NAME.up.weight");

}  // namespace
}  // namespace mla
