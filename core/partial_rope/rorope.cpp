#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/partial_rope/head_components.h"

namespace mla {
namespace {

constexpr const char* kKeyMoment = "key.second_moment";

/// RoRoPE with FreqFold (TransMLA, arXiv 2502.07864): one rotated key for all heads. The keys of all KV heads at one
/// frequency are turned, by a rotation over heads that commutes with the positions', into their principal components;
/// the leading ones stay rotated, and each head's key without them becomes position-free. `fold` neighbouring
/// frequencies are treated as one, for more energy in fewer components and an error in the frequencies; of each such
/// group `fold` / `collapse` components are kept, so that the rotated key is head_dim / collapse wide.
class RoRope final : public RotationStrategy {
 public:
  struct Options {
    std::int64_t collapse = 1;
    std::int64_t fold = 1;
    double damping = 0.01;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("collapse", self.collapse, "the rotated key is head_dim / collapse wide");
      visit("fold", self.fold, "neighbouring frequencies that are treated as one: a multiple of collapse");
      visit("damping", self.damping, "share of the keys' mean energy that is added to each direction");
    }
    void validate(const std::string& path) const {
      if (collapse < 1) throw ConfigError(cat(path, ".collapse = ", collapse, ": must be at least 1"));
      if (fold < 1 || fold % collapse != 0)
        throw ConfigError(cat(path, ".fold = ", fold, ": must be a multiple of collapse = ", collapse));
      if (!(damping >= 0)) throw ConfigError(cat(path, ".damping = ", damping, ": must not be negative"));
    }
  };
  explicit RoRope(Options options) : options_(options) {}

  std::vector<std::string> measures() const override { return {kKeyMoment}; }
  bool mixes_dims() const override { return true; }

  void check(const HeadGeometry& geometry, const std::string& path) const override {
    const std::int64_t pairs = geometry.head_dim / 2;
    if (pairs % options_.fold != 0)
      throw ConfigError(cat(path, ".fold = ", options_.fold, ": must divide the ", pairs, " pairs of a head"));
  }

  RotationShape shape(std::int64_t, const HeadGeometry& geometry) const override {
    return {geometry.head_dim / 2 / options_.collapse, true, geometry.head_dim};
  }

  KeyRotation rotation(std::int64_t layer, const HeadGeometry& geometry, const LayerMeasures& measured) const override {
    const auto found = measured.find(kKeyMoment);
    expects(found != measured.end(), "rorope needs the second moment of keys");
    const std::int64_t kv_heads = geometry.kv_heads, half = geometry.head_dim / 2, fold = options_.fold,
                       kept = fold / options_.collapse, slots = half / options_.collapse;
    if (!found->second.isfinite().all().item<bool>())
      throw DataError(cat("layer ", layer, ": the keys on calibration data are not finite"));
    // [kv_heads, first or partner, group of frequencies, frequency in it]
    const std::vector<std::int64_t> parts{kv_heads, 2, half / fold, fold};
    const at::TensorOptions like = found->second.options();
    at::Tensor query = at::zeros({geometry.heads, 2, slots, geometry.head_dim}, like);
    at::Tensor rope_key = at::zeros({2, slots, kv_heads * geometry.head_dim}, like);
    at::Tensor content = at::eye(kv_heads * geometry.head_dim, like);
    std::vector<std::int64_t> frequencies;
    for (std::int64_t group = 0; group < half / fold; ++group) {
      const at::Tensor components =
          head_components(found->second, geometry, group, {options_.collapse, fold, options_.damping});
      for (std::int64_t t = 0; t < kept; ++t) {
        const std::int64_t slot = std::ssize(frequencies);
        frequencies.push_back(fold * group + options_.collapse * t);
        for (const std::int64_t part : {0, 1}) {
          at::Tensor direction = at::zeros(parts, like);
          direction.select(1, part).select(1, group).copy_(components.select(2, t));
          const at::Tensor row = direction.flatten();
          rope_key[part][slot].copy_(row);
          content -= at::outer(row, row);
          // A query head meets the part of the shared key that is its KV head's.
          query.select(1, part).select(1, slot).copy_(
              row.view({kv_heads, geometry.head_dim}).repeat_interleave(geometry.heads / kv_heads, 0));
        }
      }
    }
    const at::Tensor as_before = at::eye(geometry.head_dim, like).expand({geometry.heads, -1, -1});
    return {{frequencies}, at::cat({query.flatten(1, 2), as_before}, 1), rope_key.flatten(0, 1).contiguous(), content};
  }

 private:
  Options options_;
};

const Registration<RotationStrategy, RoRope> kRoRope(
    "rorope", "one rotated key for all heads: principal components of keys over heads and frequencies (TransMLA)");

}  // namespace
}  // namespace mla
