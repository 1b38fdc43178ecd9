#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/compress/calibration/layer_information.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

enum class MergeChoice { kLast, kSimilar };
std::vector<std::pair<std::string, MergeChoice>> enum_names(MergeChoice) {
  return {{"last", MergeChoice::kLast}, {"similar", MergeChoice::kSimilar}};
}

enum class MergeRatio { kSimilarity, kEqual, kDrop };
std::vector<std::pair<std::string, MergeRatio>> enum_names(MergeRatio) {
  return {{"similarity", MergeRatio::kSimilarity}, {"equal", MergeRatio::kEqual}, {"drop", MergeRatio::kDrop}};
}

/// Layers that have become one, the first of which gives place and norms, and the share of each.
struct MergedLayers {
  std::vector<std::int64_t> layers;
  std::vector<double> weights;
};

/// MKA (arXiv 2406.16330): as many times as asked for, two neighbouring layers become one, their linear maps averaged
/// by how much each says about all layers, on calibration tokens. `last` takes the last two each time, as the public
/// code does; `similar` the pair that says most about each other. Plain dropping of the second one is the control, and
/// what the public code comes to, whose averages never reach the model.
class Mka final : public Pass {
 public:
  struct Options {
    std::int64_t merges = 1;
    MergeChoice choose = MergeChoice::kSimilar;
    MergeRatio ratio = MergeRatio::kSimilarity;
    std::int64_t points = 256;
    LayerInformationOptions similarity;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("merges", self.merges, "layers fewer afterwards");
      visit("choose", self.choose, "two layers to merge: similar (the most similar neighbours) | last (the last two)");
      visit("ratio", self.ratio, "share of the first: similarity (0.5 to 0.73) | equal | drop (all: the other goes)");
      visit("points", self.points, "calibration tokens, at most, whose states are compared");
      visit("similarity", self.similarity, "how layers are compared");
    }
    void validate(const std::string& path) const {
      similarity.validate(path + ".similarity");
      if (merges < 0) throw ConfigError(cat(path, ".merges = ", merges, ": must not be negative"));
      const std::int64_t most = std::max({similarity.neighbours, similarity.entropy_neighbours, similarity.dims});
      if (points <= 2 * most)
        throw ConfigError(cat(path, ".points = ", points, ": must be more than twice ", most, " (similarity)"));
    }
  };

  Mka(Options options, const std::string& path) : options_(options), path_(path) {}

  Requirements requirements() const override {
    return compares() && options_.merges > 0 ? Requirements{points_of_layers()} : Requirements{};
  }

  bool measures_shapes() const override { return options_.choose == MergeChoice::kSimilar; }

  ModelSpec plan(const ModelSpec& spec) const override {
    const std::int64_t layers = spec.layer_count();
    if (options_.merges >= layers)
      throw ConfigError(cat(path_, ".merges = ", options_.merges, ": must be less than the ", layers, " layers"));
    if (options_.merges == 0) return spec;
    // Any two neighbours may be merged: all of them must be alike.
    const auto group = [&](std::int64_t first) {
      MergedLayers all;
      for (std::int64_t layer = first; layer < layers; ++layer) all.layers.push_back(layer);
      all.weights.assign(all.layers.size(),
                         options_.ratio == MergeRatio::kDrop ? 0.0 : 1.0 / static_cast<double>(all.layers.size()));
      if (options_.ratio == MergeRatio::kDrop) all.weights.front() = 1;
      return all;
    };
    if (options_.choose == MergeChoice::kSimilar) merge_pass({group(0)})->plan(spec);
    return merge_pass({group(layers - 1 - options_.merges)})->plan(spec);
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const std::int64_t count = decoder.spec().layer_count();
    const at::Tensor similarity = compares() && options_.merges > 0 ? compared(count, inputs) : at::Tensor();
    std::vector<MergedLayers> groups;
    for (std::int64_t layer = 0; layer < count; ++layer) groups.push_back({{layer}, {1.0}});
    for (std::int64_t i = 0; i < options_.merges; ++i) merge_two(groups, similarity);
    std::erase_if(groups, [](const MergedLayers& group) { return group.layers.size() == 1; });
    return merge_pass(groups)->apply(decoder, inputs);
  }

 private:
  bool compares() const {
    return options_.choose == MergeChoice::kSimilar || options_.ratio == MergeRatio::kSimilarity;
  }

  Requirement points_of_layers() const {
    return {Tap::kLayerInput, "samples", cat("{\"tokens\":", options_.points, "}")};
  }

  std::unique_ptr<Pass> merge_pass(const std::vector<MergedLayers>& groups) const {
    Json merge = Json::array();
    for (const MergedLayers& group : groups) merge.push_back({{"layers", group.layers}, {"weights", group.weights}});
    return Registry<Pass>::instance().make({{"name", "merge_layers"}, {"merge", merge}}, path_);
  }

  at::Tensor compared(std::int64_t layers, const PassInputs& inputs) const {
    const LayerInformationOptions& options = options_.similarity;
    std::vector<at::Tensor> ranked;
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      const at::Tensor points = inputs.statistics->at(points_of_layers(), layer);
      const std::int64_t least = std::max({options.neighbours, options.entropy_neighbours, options.dims});
      if (points.size(0) <= least) {
        throw DataError(cat(path_, ": the calibration data gives ", points.size(0), " tokens to compare layers by; ",
                            "more than ", least, " are needed (similarity)"));
      }
      ranked.push_back(coordinate_ranks(diffusion_map(points, options).coordinates));
    }
    return information_similarity(ranked, options);
  }

  void merge_two(std::vector<MergedLayers>& groups, const at::Tensor& similarity) const {
    std::size_t at = groups.size() - 2;
    if (options_.choose == MergeChoice::kSimilar) {
      double best = -1;
      for (std::size_t i = 0; i + 1 < groups.size(); ++i) {
        const double alike = similarity[groups[i].layers.front()][groups[i + 1].layers.front()].item<double>();
        if (alike < best) continue;  // of equals the last
        best = alike;
        at = i;
      }
    }
    MergedLayers &first = groups[at], &second = groups[at + 1];
    const double share = options_.ratio == MergeRatio::kDrop ? 1
                         : options_.ratio == MergeRatio::kEqual
                             ? 0.5
                             : fusion_ratio(similarity, first.layers.front(), second.layers.front());
    for (double& weight : first.weights) weight *= share;
    for (const double weight : second.weights) first.weights.push_back(weight * (1 - share));
    first.layers.insert(first.layers.end(), second.layers.begin(), second.layers.end());
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, Mka> kMka(
    "mka", "merges neighbouring layers by what their states say about each other (MKA, arXiv 2406.16330)");

}  // namespace
}  // namespace mla
