#include "core/compress/calibration/map_inputs.h"

#include <ATen/ATen.h>

#include <memory>

#include "core/base/error.h"

namespace mla {
namespace {

/// What some maps have multiplied. Maps that are always given the same tensor, such as those of queries and keys, have
/// one sum together.
class SeenInputs {
 public:
  void see(const std::string& map, const at::Tensor& x) {
    auto own = leaders_.find(map);
    if (own == leaders_.end()) own = leaders_.emplace(map, last_.is_same(x) ? last_leader_ : map).first;
    if (own->second != map) return;
    last_ = x;  // held, so that no other tensor takes its place
    last_leader_ = map;
    Sum& sum = sums_[map];
    const at::Tensor rows = x.detach().reshape({-1, x.size(-1)}).to(at::kDouble);
    if (!sum.moment.defined()) sum.moment = at::zeros({rows.size(1), rows.size(1)}, rows.options());
    sum.moment.addmm_(rows.t(), rows);
    sum.rows += rows.size(0);
  }

  std::map<std::string, at::Tensor> moments() const {
    std::map<std::string, at::Tensor> all;
    for (const auto& [map, leader] : leaders_) {
      const Sum& sum = sums_.at(leader);
      all[map] = (sum.moment * (2.0 / static_cast<double>(sum.rows))).to(at::kCPU);
    }
    return all;
  }

 private:
  struct Sum {
    at::Tensor moment;
    std::int64_t rows = 0;
  };
  std::map<std::string, std::string> leaders_;  ///< the map whose sum is that of each
  std::map<std::string, Sum> sums_;
  at::Tensor last_;
  std::string last_leader_;
};

/// Stands in for a dense matrix and notes what it is multiplied with.
class WatchedWeights final : public WeightStorage {
 public:
  WatchedWeights(std::string name, const at::Tensor& weight, SeenInputs& seen)
      : name_(std::move(name)), map_(weight), seen_(seen) {}

  std::string kind() const override { return "watched"; }
  Json fields() const override { return Json::object(); }
  std::string description() const override { return "a dense matrix that is watched"; }
  void check(const MatrixShape&, const std::string&) const override {}
  std::vector<StoredPart> parts(const MatrixShape&) const override { return {{"none", {0}, {}}}; }
  void expect_valid(const std::vector<at::Tensor>&, const MatrixShape&, const std::string&) const override {}
  at::Tensor dense(const std::vector<at::Tensor>& parts, const MatrixShape&) const override {
    return map_.matrix_for(parts.front());
  }
  /// So that each product is asked for by itself.
  bool is_factored() const override { return true; }
  at::Tensor multiply(const std::vector<at::Tensor>&, const at::Tensor& x) const override {
    seen_.see(name_, x);
    return map_(x);
  }

 private:
  std::string name_;
  Linear map_;
  SeenInputs& seen_;
};

}  // namespace

std::map<std::string, at::Tensor> input_moments(Decoder& decoder, const LayerWalk& walk,
                                                const std::set<std::string>& names) {
  SeenInputs seen;
  std::map<std::string, Linear> originals;
  decoder.replace_maps([&](const std::string& name, Linear& map) {
    if (!names.contains(name)) return;
    expects(map.defined() && !map.storage(), "a dense map is watched");
    const at::Tensor none = at::empty({0}, map.options());
    originals.emplace(name, map);
    map = {std::make_shared<WatchedWeights>(name, map.matrix_for(none), seen),
           {map.rows(), map.columns()},
           {none},
           map.bias()};
  });
  walk.observe(Tap::kLayerOutput, [](std::size_t, const at::Tensor&) {});  // so that the whole layer runs
  decoder.replace_maps([&](const std::string& name, Linear& map) {
    if (const auto found = originals.find(name); found != originals.end()) map = found->second;
  });
  return seen.moments();
}

at::Tensor input_moment(const at::Tensor& x) {
  SeenInputs seen;
  seen.see("", x);
  return seen.moments().at("");
}

}  // namespace mla
