#include "core/model/family.h"

namespace mla {
namespace {

/// OLMo 2: norms stand after attention and feed-forward part, not before them, and queries and keys are RMS-normalised
/// over all heads together before the rotation.
class Olmo2 final : public Family {
 public:
  explicit Olmo2(Options) {}
  UniformModel read(ConfigReader& config) const override {
    UniformModel model = read_common_config(config, {.max_positions = 2048, .norm_epsilon = 1e-5});
    model.model.norms = NormPlacement::kAfter;
    HeadFields& heads = model.heads;
    heads.qk_norm = heads.qk_norm_whole = true;
    heads.query_bias = config.boolean_or("attention_bias", false);
    heads.key_bias = heads.value_bias = heads.output_bias = heads.query_bias;
    return model;
  }
  void write(const UniformModel& model, Json& config) const override {
    config["attention_bias"] = model.heads.query_bias;
  }
};

const Registration<Family, Olmo2> kOlmo2("olmo2", "OLMo 2: norms after attention and MLP, QK-norm over all heads");

}  // namespace
}  // namespace mla
