#include <ATen/ATen.h>

#include "core/base/registry.h"
#include "core/compress/calibration/fisher_information.h"
#include "core/compress/layers/head_weights.h"
#include "core/compress/layers/key_value_factors.h"
#include "core/low_rank/proportional_ranks.h"

namespace mla {
namespace {

/// Who gives ranks to matrices.
enum class PaluRanks { kAllocated, kFisher };
std::vector<std::pair<std::string, PaluRanks>> enum_names(PaluRanks) {
  return {{"allocated", PaluRanks::kAllocated}, {"fisher", PaluRanks::kFisher}};
}

const Json kUniformAllocation = {{"name", "uniform"}};

/// Palu (arXiv 2407.21118): the plain SVD of the key and the value matrix, for groups of KV heads; without data unless
/// ranks are measured. One group is the paper's J-LRD, one head for each M-LRD, between them G-LRD. Its search gives
/// the matrices of all layers, keys and values together, ranks by their Fisher information (the public code's
/// fisher_uniform: groups of one matrix alike).
class Palu final : public Pass {
 public:
  struct Options {
    KeyValueOptions factors;
    std::int64_t groups = 1;
    PaluRanks ranks = PaluRanks::kAllocated;
    static StrategyFields strategies() { return {{"allocate", strategy_identity<Allocator>}}; }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      KeyValueOptions::fields(self.factors, visit);
      visit("groups", self.groups, "groups of neighbouring KV heads, each with a latent of its own");
      visit("ranks", self.ranks,
            "allocated: as `allocate` says | fisher: key and value matrices of all layers by their Fisher information");
    }
    void validate(const std::string& path) const {
      factors.validate(path);
      if (groups < 1) throw ConfigError(cat(path, ".groups = ", groups, ": must be at least 1"));
      if (ranks == PaluRanks::kFisher && factors.allocate != kUniformAllocation)
        throw ConfigError(cat(path, ".ranks = fisher: shares the ranks itself; leave allocate out"));
    }
  };

  Palu(const Options& options, const std::string& path)
      : searches_(options.ranks == PaluRanks::kFisher), path_(path), factors_(options.factors, options.groups, path) {}

  Requirements requirements() const override { return factors_.requirements(); }
  bool reads_rows() const override { return searches_; }
  bool measures_shapes() const override { return searches_ || factors_.measures_shapes(); }

  ModelSpec plan(const ModelSpec& spec) const override {
    for (std::int64_t layer = 0; searches_ && layer < spec.layer_count(); ++layer)
      expect_dense(spec, layer, "", cat(path_, ": layer ", layer));  // gradients pass through all of them
    return factors_.plan(spec);
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    if (!searches_) return factors_.apply(decoder, inputs, {});
    return factors_.apply(decoder, inputs, {}, [&](const std::vector<KeyValueRanks>& most, std::int64_t budget) {
      const TensorMap fisher = fisher_information(decoder, *inputs.rows, {"self_attn.k_proj", "self_attn.v_proj"});
      std::vector<double> information;
      std::vector<std::int64_t> largest;
      for (std::size_t layer = 0; layer < most.size(); ++layer) {
        for (const char* map : {"k_proj", "v_proj"})
          information.push_back(fisher.at(cat("model.layers.", layer, ".self_attn.", map)).mean().item<double>());
        largest.insert(largest.end(), {most[layer].key, most[layer].value});
      }
      const std::vector<std::int64_t> ranks = proportional_ranks(information, largest, budget);
      std::vector<KeyValueRanks> shared;
      for (std::size_t i = 0; i < ranks.size(); i += 2) shared.push_back({ranks[i], ranks[i + 1]});
      return shared;
    });
  }

 private:
  bool searches_;
  std::string path_;
  KeyValueFactors factors_;
};

const Registration<Pass, Palu> kPalu(
    "palu", "latents of keys and of values by the plain SVD of groups of heads (Palu, arXiv 2407.21118)");

}  // namespace
}  // namespace mla
