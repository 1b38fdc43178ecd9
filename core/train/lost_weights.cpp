#include "core/train/lost_weights.h"

#include <memory>
#include <set>
#include <stdexcept>
#include <utility>

#include "core/train/gradient_buckets.h"
#include "core/train/weight_shards.h"

namespace mla {
namespace {

/// In the place of a layer's attention: everything goes through it.
class LostLayer final : public Attention {
 public:
  explicit LostLayer(std::shared_ptr<const AttentionSpec> spec) : spec_(std::move(spec)) {}

  std::shared_ptr<const AttentionSpec> spec() const override { return spec_; }
  at::Tensor forward(const at::Tensor&, ForwardContext&) const override { refuse(); }
  at::Tensor forward_cached(const at::Tensor&, ForwardContext&, LayerCache&) const override { refuse(); }
  void prepare_decode() override { refuse(); }
  void visit_weights(const WeightVisitor&) override {
    if (in_place) refuse();
  }
  std::unique_ptr<Attention> clone() const override { refuse(); }

  bool in_place = false;  ///< a model looks at what it is given

 private:
  [[noreturn]] static void refuse() {
    throw std::logic_error(
        "this model's weights are lost: processes had divided them (train.shard = weights) when their training ended "
        "in an exception; read or make the model again");
  }
  std::shared_ptr<const AttentionSpec> spec_;
};

}  // namespace

void give_up_lost_weights(Decoder& decoder) {
  std::set<std::size_t> lost;
  decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (const auto layer = layer_of(name); layer && WeightShards::is_dropped(tensor)) lost.insert(*layer);
  });
  for (const std::size_t i : lost) {
    auto layer = std::make_unique<LostLayer>(decoder.layers.at(i).attention->spec());
    LostLayer& placed = *layer;
    decoder.replace_attention(i, std::move(layer));
    placed.in_place = true;
  }
}

}  // namespace mla
