#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/low_rank/factorizer.h"

namespace mla {
namespace {

class Uncompressed : public Decomposition {
 public:
  Uncompressed(at::Tensor key, at::Tensor value) : key_(std::move(key)), value_(std::move(value)) {}

  Factorization truncate(std::int64_t width) const override {
    expects(width == key_.size(0) + value_.size(0), "low_rank none has one width only");
    Factorization result;
    result.down = at::cat({key_, value_});
    result.key = {0, key_.size(0)};
    result.value = {key_.size(0), value_.size(0)};
    return result;
  }

  double error(std::int64_t) const override { return 0; }

 private:
  at::Tensor key_, value_;
};

/// No low-rank step: the "latent" is [K_nope; V] itself, which leaves partial RoPE alone to be studied.
class None : public Factorizer {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit None(Options) {}

  LatentShape shape(std::int64_t layer, const FactorGeometry& geometry) const override {
    const std::int64_t keys = geometry.nope_rows(layer), values = geometry.value_rows();
    return {.width = keys + values, .key = {0, keys}, .value = {keys, values}, .key_up = false, .value_up = false};
  }

  WidthBounds bounds(std::int64_t layer, const FactorGeometry& geometry) const override {
    const std::int64_t whole = shape(layer, geometry).width;
    return {whole, whole};
  }

  Json sharing_key() const override { return "none"; }

  bool compresses_keys() const override { return false; }
  bool decomposes() const override { return false; }

  void check(const FactorGeometry&, const std::string&) const override {}

  std::unique_ptr<Decomposition> decompose(const LayerProblem& problem, std::int64_t) const override {
    return std::make_unique<Uncompressed>(problem.key, problem.value);
  }
};

const Registration<Factorizer, None> kNone("none", "no low-rank step: keys and values stay as they are");

}  // namespace
}  // namespace mla
