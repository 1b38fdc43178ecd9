#include <algorithm>
#include <optional>
#include <utility>

#include "core/base/registry.h"
#include "core/partial_rope/pairs.h"

namespace mla {
namespace {

/// Pairs as a config gives them: [pair, …] for all layers and heads, or [layer][kv_head][pair].
class PairLists {
 public:
  static PairLists read(const Json& json, const std::string& path) {
    PairLists lists;
    lists.shared_ = json.is_array() &&
                    std::all_of(json.begin(), json.end(), [](const Json& item) { return item.is_number_integer(); });
    if (lists.shared_) {
      detail::read_value(json, path, lists.common_);
    } else {
      detail::read_value(json, path, lists.layers_);
    }
    return lists;
  }

  static Json schema() {
    using Heads = std::vector<std::vector<std::int64_t>>;
    return {{"anyOf", Json::array({schema_of(std::vector<std::int64_t>{}), schema_of(std::vector<Heads>{})})}};
  }

  Json write() const { return shared_ ? Json(common_) : Json(layers_); }

  void check(const HeadGeometry& geometry, const std::string& path) const {
    if (shared_) return check_head(common_, geometry, path);
    check_size(layers_.size(), geometry.layers, "layers", path);
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      const std::string layer_path = cat(path, "[", layer, "]");
      check_size(layers_[layer].size(), geometry.kv_heads, "KV heads", layer_path);
      for (std::size_t head = 0; head < layers_[layer].size(); ++head) {
        const std::string head_path = cat(layer_path, "[", head, "]");
        check_head(layers_[layer][head], geometry, head_path);
        if (layers_[layer][head].size() != layers_[layer][0].size()) {
          throw ConfigError(cat(head_path, ": ", layers_[layer][head].size(), " pairs; KV head 0 of the layer keeps ",
                                layers_[layer][0].size(), ", and all must keep as many"));
        }
      }
    }
  }

  KeptPairs at(std::int64_t layer, const HeadGeometry& geometry) const {
    KeptPairs kept = shared_ ? same_for_all_heads(common_, geometry) : layers_.at(static_cast<std::size_t>(layer));
    for (auto& pairs : kept) std::sort(pairs.begin(), pairs.end());
    return kept;
  }

 private:
  static void check_size(std::size_t found, std::int64_t wanted, const char* what, const std::string& path) {
    if (std::cmp_equal(found, wanted)) return;
    throw ConfigError(cat(path, ": a list of ", found, "; the model has ", wanted, " ", what));
  }

  static void check_head(std::vector<std::int64_t> pairs, const HeadGeometry& geometry, const std::string& path) {
    std::sort(pairs.begin(), pairs.end());
    const std::int64_t available = geometry.head_dim / 2;
    for (const std::int64_t pair : pairs) {
      if (pair >= 0 && pair < available) continue;
      throw ConfigError(
          cat(path, ": no pair ", pair, "; head_dim ", geometry.head_dim, " has pairs 0..", available - 1));
    }
    const auto repeated = std::adjacent_find(pairs.begin(), pairs.end());
    if (repeated != pairs.end()) throw ConfigError(cat(path, ": pair ", *repeated, " is listed twice"));
  }

  bool shared_ = true;
  std::vector<std::int64_t> common_;
  std::vector<KeptPairs> layers_;
};

/// Pairs chosen elsewhere and listed in the config.
class Explicit : public RopeSelector {
 public:
  struct Options {
    std::optional<PairLists> kept;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("kept", self.kept, "the kept pairs: one list for all layers and heads, or [layer][kv_head][pair]");
    }
    void validate(const std::string& path) const {
      if (!kept) throw ConfigError(cat(path, ".kept: missing; a list of pairs, or [layer][kv_head][pair]"));
    }
  };
  explicit Explicit(Options options) : kept_(*options.kept) {}

  void check(const HeadGeometry& geometry, const std::string& path) const override {
    kept_.check(geometry, path + ".kept");
  }

  std::int64_t pairs(std::int64_t layer, const HeadGeometry& geometry) const override {
    return std::ssize(kept_.at(layer, geometry).at(0));
  }

  KeptPairs select(std::int64_t layer, const HeadGeometry& geometry, const PairNorms*) const override {
    return kept_.at(layer, geometry);
  }

 private:
  PairLists kept_;
};

const Registration<RotationStrategy, Explicit> kExplicit("explicit", "pairs listed in the config");

}  // namespace
}  // namespace mla
