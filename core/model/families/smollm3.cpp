#include "core/model/family.h"

namespace mla {
namespace {

/// SmolLM3: Llama with GQA, tied embeddings, and layers whose queries and keys are not rotated (NoPE), every fourth
/// where the config does not list them. Windows, where there are any, are those of the layers without rotation.
class SmolLm3 final : public Family {
 public:
  explicit SmolLm3(Options) {}
  UniformModel read(ConfigReader& config) const override {
    UniformModel model = read_common_config(config, {.max_positions = 32768, .kv_heads = 4, .tied = true});
    model.rope.theta = 2000000;
    HeadFields& heads = model.heads;
    heads.query_bias = config.boolean_or("attention_bias", false);
    heads.key_bias = heads.value_bias = heads.output_bias = heads.query_bias;
    model.feed_forward.bias = config.boolean_or("mlp_bias", false);
    model.ropes = read_rotation(config, model.layers);
    model.windows = read_windows(config, model);
    return model;
  }
  void write(const UniformModel& model, Json& config) const override {
    config["attention_bias"] = model.heads.query_bias;
    config["mlp_bias"] = model.feed_forward.bias;
    config.erase("no_rope_layer_interval");
    Json rotated = Json::array();
    for (std::size_t layer = 0; layer < static_cast<std::size_t>(model.layers); ++layer)
      rotated.push_back(model.ropes.empty() || model.ropes[layer] != RopeUse::kNone ? 1 : 0);
    config["no_rope_layers"] = std::move(rotated);
    write_layer_windows(model, config);
  }

 private:
  /// no_rope_layers holds 1 for each layer that rotates, 0 for others.
  static std::vector<RopeUse> read_rotation(ConfigReader& config, std::int64_t layers) {
    const std::int64_t interval = config.size_or("no_rope_layer_interval", 4, kMostLayers);
    const Json list = config.value("no_rope_layers");
    if (!list.is_null() && (!list.is_array() || std::ssize(list) < layers))
      config.refuse("no_rope_layers", cat("must list 1 (rotated) or 0 for each of ", layers, " layers"));
    std::vector<RopeUse> uses;
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      Json rotated = (layer + 1) % interval != 0 ? 1 : 0;
      if (!list.is_null()) rotated = list[static_cast<std::size_t>(layer)];
      if (rotated != 0 && rotated != 1)
        config.refuse("no_rope_layers", cat("layer ", layer, ": expected 1 (rotated) or 0, found ", brief(rotated)));
      uses.push_back(rotated == 1 ? RopeUse::kModel : RopeUse::kNone);
    }
    return uses;
  }

  static std::vector<std::int64_t> read_windows(ConfigReader& config, const UniformModel& model) {
    const bool used = config.boolean_or("use_sliding_window", false);
    const std::int64_t window = config.size_or("sliding_window", 0, kMostPositions);
    const std::optional<std::vector<bool>> sliding = sliding_layers(config, model.layers);
    std::vector<std::int64_t> windows;
    for (std::size_t layer = 0; layer < model.ropes.size(); ++layer) {
      const bool can = used && window > 0;
      if (sliding && (*sliding)[layer] && !can)
        config.refuse("layer_types", "a sliding layer needs use_sliding_window and sliding_window");
      const bool slides = sliding ? (*sliding)[layer] : can && model.ropes[layer] == RopeUse::kNone;
      windows.push_back(slides ? window : 0);
    }
    return windows;
  }
};

const Registration<Family, SmolLm3> kSmolLm3("smollm3", "SmolLM3: layers without rotation");

}  // namespace
}  // namespace mla
