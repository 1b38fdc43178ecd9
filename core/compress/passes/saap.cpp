#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "core/attention/grouped_query.h"
#include "core/base/registry.h"
#include "core/compress/calibration/importance.h"
#include "core/compress/layers/keep_structures.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// How layers share what goes.
enum class PruneSpread { kTogether, kEach };
std::vector<std::pair<std::string, PruneSpread>> enum_names(PruneSpread) {
  return {{"together", PruneSpread::kTogether}, {"each", PruneSpread::kEach}};
}

/// How many of one kind of structure each layer has, as planned loses, and may lose at most.
struct PrunedCounts {
  std::vector<std::int64_t> have, lost, most;
  std::int64_t left(std::int64_t layer) const {
    return have[static_cast<std::size_t>(layer)] - lost[static_cast<std::size_t>(layer)];
  }
};

/// Number `number` of a layer's structures.
struct PruneCandidate {
  double score = 0;
  std::size_t layer = 0, number = 0;
};

/// Structural pruning of KV heads, each with all query heads that read it, and of feed-forward channels, by how much
/// the loss on calibration text depends on them (SAAP, arXiv 2412.15127). Known of the paper: element-wise and
/// vector-wise Taylor scores as LLM-Pruner has them are fused, structures whose scores fluctuate go first, and layers
/// lose different shares. How it fuses and measures fluctuation is not public: both are ours here. LLM-Pruner itself
/// (arXiv 2305.11627) is score element, spread each. Budgets are numbers of structures, met exactly. What
/// was lost comes back by training: a further stage.
class Saap final : public Pass {
 public:
  struct Options {
    double heads = 0.25, channels = 0.25;
    ImportanceScore score = ImportanceScore::kFused;
    TaylorOrder order = TaylorOrder::kFirst;
    PruneSpread spread = PruneSpread::kTogether;
    bool stable = false;
    std::int64_t skip_first = 0, skip_last = 0, rows = 10, length = 64;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("heads", self.heads, "share of KV heads that go, each with its query heads, rounded down");
      visit("channels", self.channels, "share of feed-forward channels that go, rounded down");
      visit("score", self.score, "element (LLM-Pruner) | vector | fused (of both: ours) | geometric (likewise)");
      visit("order", self.order, "what a weight counts: first (w g) | second (w f w) | mixed (w g - w f w / 2)");
      visit("spread", self.spread, "layers lose together, where scores are least, or the same share each");
      visit("stable", self.stable,
            "a score that fluctuates from row to row counts less: ours, and worse on the small models tried");
      visit("skip_first", self.skip_first, "first layers that stay whole; LLM-Pruner: 4 of 32");
      visit("skip_last", self.skip_last, "last layers that stay whole; LLM-Pruner: 2 of 32");
      visit("rows", self.rows, "calibration rows read at most, as in LLM-Pruner; 0: all");
      visit("length", self.length, "tokens read of each at most, as in LLM-Pruner; 0: all");
    }
    void validate(const std::string& path) const {
      for (const auto& [name, share] : {std::pair{"heads", heads}, {"channels", channels}}) {
        if (!(share >= 0 && share < 1))
          throw ConfigError(cat(path, ".", name, " = ", share, ": must be at least 0 and below 1"));
      }
      for (const auto& [name, count, least] :
           {std::tuple{"skip_first", skip_first, 0}, {"skip_last", skip_last, 0}, {"rows", rows, 0}}) {
        if (count < least) throw ConfigError(cat(path, ".", name, " = ", count, ": must not be negative"));
      }
      if (length != 0 && length < 2)
        throw ConfigError(cat(path, ".length = ", length, ": must be 0, for all, or at least 2"));
    }
  };

  Saap(Options options, const std::string& path) : options_(options), path_(path) {}

  bool reads_rows() const override { return prunes(); }
  bool measures_shapes() const override { return prunes() && options_.spread == PruneSpread::kTogether; }

  ModelSpec plan(const ModelSpec& spec) const override {
    if (!prunes()) return spec;
    check(spec);
    const PrunedCounts heads = head_counts(spec), channels = channel_counts(spec);
    ModelSpec planned = spec;
    for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
      LayerSpec& own = planned.layers[static_cast<std::size_t>(layer)];
      own = with_structures(own, heads.left(layer), channels.left(layer));
    }
    check_spec(planned, cat(path_, ": the layers that are left"));
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    if (!prunes()) return for_each_layer(decoder, inputs, [](std::int64_t, LayerReport&) {});
    const ModelSpec spec = decoder.spec();
    const std::vector<LayerImportance> importance = layer_importance(decoder, some_rows(*inputs.rows), options_.order);
    const auto heads = kept(head_counts(spec), importance, &StructureScores::kv_groups),
               channels = kept(channel_counts(spec), importance, &StructureScores::feed_forward);
    std::vector<KeptStructures> parts(spec.layers.size());
    for (std::size_t layer = 0; layer < parts.size(); ++layer) {
      if (options_.heads > 0) parts[layer].kv_heads = heads[layer];
      if (options_.channels > 0) parts[layer].channels = channels[layer];
    }
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport&) {
      if (layer == 0) decoder = keep_structures(decoder, parts);
    });
  }

 private:
  bool prunes() const { return options_.heads > 0 || options_.channels > 0; }
  bool is_whole(std::int64_t layer, const ModelSpec& spec) const {
    return layer < options_.skip_first || layer >= spec.layer_count() - options_.skip_last;
  }

  void check(const ModelSpec& spec) const {
    if (options_.skip_first + options_.skip_last >= spec.layer_count()) {
      throw ConfigError(cat(path_, ".skip_first = ", options_.skip_first, ", skip_last = ", options_.skip_last,
                            ": leave none of the ", spec.layer_count(), " layers to prune"));
    }
    std::optional<HeadFields> first;
    for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
      const std::string where = cat(path_, ": layer ", layer);
      expect_dense(spec, layer, "", where);  // gradients pass through all of them
      if (options_.heads == 0) continue;
      const std::optional<HeadFields> heads = grouped_query_heads(spec.attention(layer));
      if (!heads) {
        throw ConfigError(cat(where, " is of kind ", spec.attention(layer).kind(),
                              "; expected grouped_query: prune heads before other passes, or heads = 0"));
      }
      if (is_whole(layer, spec)) continue;
      if (heads->qk_norm_whole)
        throw ConfigError(cat(where, ": ", only_grouped_query(*heads), "; here, heads = 0 prunes channels alone"));
      if (!first) first = heads;
      const bool alike = heads->head_dim == first->head_dim && heads->group() == first->group();
      if (!alike && options_.spread == PruneSpread::kTogether)
        throw ConfigError(cat(where, ": has heads of other sizes than those before it; expected spread = each"));
    }
  }

  PrunedCounts head_counts(const ModelSpec& spec) const {
    std::vector<std::int64_t> have;
    for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer)
      have.push_back(spec.attention(layer).heads().value_or(HeadFields{}).kv_heads);
    return counts(have, options_.heads, spec, "heads", "KV heads");
  }

  PrunedCounts channel_counts(const ModelSpec& spec) const {
    std::vector<std::int64_t> have;
    for (const LayerSpec& layer : spec.layers) have.push_back(layer.feed_forward.width);
    return counts(have, options_.channels, spec, "channels", "channels");
  }

  /// Of layers together as evenly as can be: which of them lose how many follows from data.
  PrunedCounts counts(const std::vector<std::int64_t>& have, double share, const ModelSpec& spec, const char* option,
                      const char* what) const {
    const std::vector<std::int64_t> none(spec.layers.size(), 0);
    PrunedCounts all{have, none, none};
    if (share == 0) return all;
    // A share that is meant to be whole may fall short by rounding.
    const auto part = [&](std::int64_t count) {
      return static_cast<std::int64_t>(std::floor(share * static_cast<double>(count) + 1e-9));
    };
    const bool together = options_.spread == PruneSpread::kTogether;
    std::int64_t total = 0;
    for (std::size_t layer = 0; layer < have.size(); ++layer) {
      if (is_whole(static_cast<std::int64_t>(layer), spec)) continue;
      total += have[layer];
      all.most[layer] = together ? have[layer] - 1 : std::min(part(have[layer]), have[layer] - 1);
    }
    const std::int64_t most = std::accumulate(all.most.begin(), all.most.end(), std::int64_t{0});
    const std::int64_t going = together ? part(total) : most;
    if (going == 0 || going > most) {
      throw ConfigError(cat(path_, ".", option, " = ", share, ": of ", total, " ", what,
                            together ? ", " : ", layer by layer, ", going,
                            " would go; expected at least 1, and one left in each layer; 0: none"));
    }
    if (!together) all.lost = all.most;
    for (std::int64_t left = together ? going : 0; left > 0; --left) ++all.lost[fullest(all)];
    return all;
  }

  /// The layer with the most structures of those that may lose another one.
  static std::size_t fullest(const PrunedCounts& all) {
    std::size_t best = all.have.size();
    for (std::size_t layer = 0; layer < all.have.size(); ++layer) {
      if (all.lost[layer] == all.most[layer]) continue;
      if (best == all.have.size() || all.have[layer] - all.lost[layer] > all.have[best] - all.lost[best]) best = layer;
    }
    return best;
  }

  TokenRowList some_rows(const TokenRowList& rows) const {
    TokenRowList some = rows;
    if (options_.rows > 0 && std::ssize(some) > options_.rows) some.resize(static_cast<std::size_t>(options_.rows));
    for (std::vector<std::int32_t>& row : some) {
      if (options_.length > 0 && std::ssize(row) > options_.length)
        row.resize(static_cast<std::size_t>(options_.length));
    }
    return some;
  }

  at::Tensor score(const LayerImportance& layer, at::Tensor StructureScores::*part) const {
    const at::Tensor one = one_score(options_.score, layer.by_element.*part, layer.by_vector.*part);
    if (!options_.stable) return one;
    const at::Tensor unsteady = 1 + layer.fluctuation.*part;
    return options_.score == ImportanceScore::kGeometric ? one - unsteady.log() : one / unsteady;
  }

  /// The structures of all layers that may lose some, those with the least scores first, of equals the first.
  std::vector<PruneCandidate> candidates(const PrunedCounts& counts, const std::vector<LayerImportance>& importance,
                                         at::Tensor StructureScores::*part) const {
    std::vector<PruneCandidate> all;
    for (std::size_t layer = 0; layer < importance.size(); ++layer) {
      if (counts.most[layer] == 0) continue;
      const at::Tensor scores = score(importance[layer], part).contiguous();
      for (std::int64_t i = 0; i < scores.numel(); ++i)
        all.push_back({scores.const_data_ptr<double>()[i], layer, static_cast<std::size_t>(i)});
    }
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.score < b.score; });
    return all;
  }

  /// What each layer keeps, ascending.
  std::vector<std::vector<std::int64_t>> kept(const PrunedCounts& counts,
                                              const std::vector<LayerImportance>& importance,
                                              at::Tensor StructureScores::*part) const {
    std::vector<std::vector<bool>> gone;
    for (const std::int64_t have : counts.have) gone.emplace_back(static_cast<std::size_t>(have), false);
    std::vector<std::int64_t> may_go = counts.most;
    std::int64_t going = std::accumulate(counts.lost.begin(), counts.lost.end(), std::int64_t{0});
    for (const PruneCandidate& one : candidates(counts, importance, part)) {
      if (going == 0 || may_go[one.layer] == 0) continue;
      gone[one.layer][one.number] = true;
      --may_go[one.layer];
      --going;
    }
    std::vector<std::vector<std::int64_t>> all(gone.size());
    for (std::size_t layer = 0; layer < gone.size(); ++layer) {
      for (std::size_t i = 0; i < gone[layer].size(); ++i) {
        if (!gone[layer][i]) all[layer].push_back(static_cast<std::int64_t>(i));
      }
    }
    return all;
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, Saap> kSaap(
    "saap",
    "prunes KV heads with their query heads and feed-forward channels by Taylor scores (SAAP, arXiv 2412.15127)");

}  // namespace
}  // namespace mla
