#include "core/attention/adapted_weights.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// LoRA adapters that training left beside a model's matrices, merged into them: for whatever needs dense matrices.
class MergeAdapters final : public Pass {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  MergeAdapters(const Options&, const std::string& path) : path_(path) {}

  ModelSpec plan(const ModelSpec& spec) const override {
    ModelSpec planned = spec;
    bool any = false;
    for (const auto& [name, storage] : model_storage(spec)) {
      if (!adapters_of(storage.form)) continue;
      if (!adapters_merge(storage.form)) {
        throw ConfigError(cat(path_, ": ", name, " has ", storage.form->description(),
                              ", into which adapters are not merged; they stay beside"));
      }
      set_storage(planned, name, nullptr);
      any = true;
    }
    if (!any) throw ConfigError(cat(path_, ": the model has no adapters"));
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport&) {
      const std::string prefix = cat("model.layers.", layer, ".");
      decoder.replace_maps([&](const std::string& name, Linear& map) {
        if (name.starts_with(prefix) && adapters_of(map.storage())) map = without_adapters(map);
      });
    });
  }

 private:
  std::string path_;
};

const Registration<Pass, MergeAdapters> kMergeAdapters("merge_adapters",
                                                       "LoRA adapters merged into the matrices that they stand beside");

}  // namespace
}  // namespace mla
