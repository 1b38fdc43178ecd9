#include "core/attention/block_weights.h"
#include "core/attention/packed_weights.h"
#include "core/base/registry.h"
#include "core/base/suggest.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/map_choice.h"
#include "core/compress/pass.h"
#include "core/ops/encode_blocks.h"

namespace mla {
namespace {

/// Weights as codes of a codec, which are decoded for each product: rows of a matrix are what tokens are to the codec,
/// its columns channels. Or as GGUF's blocks, whose products take them as they are. Biases and norms stay as they are.
/// Nothing is trained or calibrated; what was packed before stays as it was. Comes after conversions and training,
/// which need dense matrices.
class QuantizeWeights final : public Pass {
 public:
  struct Options {
    Json codec = {{"name", "rtn"}, {"bits", 8}};
    std::string blocks;
    std::vector<ChosenMaps> maps = {ChosenMaps::kAttention, ChosenMaps::kFeedForward};
    static StrategyFields strategies() { return {{"codec", strategy_identity<Codec>}}; }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("codec", self.codec, "codec of the cache and its options, one that needs no calibration: {\"name\": …}");
      visit("blocks", self.blocks,
            "instead of `codec`, GGUF's blocks of 32: Q8_0 | Q4_0 | Q4_1; products with them round x to 8 bits");
      visit("maps", self.maps,
            "which linear maps: attention | feed_forward | embedding (and an output matrix tied to it) | output");
    }
  };

  QuantizeWeights(Options options, const std::string& path)
      : options_(std::move(options)), path_(path), blocks_(find_blocks(options_, path)) {
    if (blocks_) return;
    codec_ = make_codec(options_.codec, path + ".codec");
    name_ = options_.codec.at("name").get<std::string>();
  }

  ModelSpec plan(const ModelSpec& spec) const override {
    ModelSpec planned = spec;
    bool any = false;
    for (const ModelParameter& parameter : model_parameters(spec)) {
      if (!is_chosen(parameter, options_.maps)) continue;
      set_storage(planned, parameter.map_name(), storage_of(parameter));
      any = true;
    }
    if (!any) refuse_no_map(spec, path_, brief(write_fields(options_).at("maps")));
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const StorageMap planned = model_storage(plan(decoder.spec()));
    const c10::InferenceMode off(false);
    decoder.replace_maps([&](const std::string& name, Linear& map) {
      const auto found = planned.find(name);
      if (found == planned.end() || map.storage()) return;
      try {
        map = blocks_ ? hold_as_blocks(map, *blocks_) : pack(map, *codec_, found->second.form);
      } catch (const DataError& error) {
        throw DataError(cat(path_, ": ", name, ": ", error.what()));
      }
    });
    return for_each_layer(decoder, inputs, [](std::int64_t, LayerReport&) {});
  }

 private:
  /// Null where none are asked for.
  static const BlockFormat* find_blocks(const Options& options, const std::string& path) {
    if (options.blocks.empty()) return nullptr;
    const BlockFormat* format = find_block_format(options.blocks);
    if (!format || !encodes_blocks(*format)) {
      throw ConfigError(cat(path, ".blocks = ", brief_text(options.blocks), ": known: ", encoded_block_names()));
    }
    if (options.codec != Options{}.codec)
      throw ConfigError(cat(path, ".blocks = ", options.blocks, ": stands instead of `codec`; name one of the two"));
    return format;
  }

  static std::unique_ptr<Codec> make_codec(const Json& options, const std::string& path) {
    const std::unique_ptr<Codec> codec = Registry<Codec>::instance().make(options, path);
    if (codec->needs_calibration()) refuse_calibrated(options.at("name").get<std::string>(), path);
    return codec->for_stream("weight", nullptr);
  }

  [[noreturn]] static void refuse_calibrated(const std::string& name, const std::string& path) {
    throw ConfigError(cat(path, ".name = ", name,
                          ": leans on a calibration of what it encodes, and weights have none; others: rtn, quanto, "
                          "hqq, kivi"));
  }

  std::shared_ptr<const WeightStorage> storage_of(const ModelParameter& parameter) const {
    if (blocks_) return block_storage(*blocks_);
    std::shared_ptr<const WeightStorage> storage;
    try {
      storage = packed_storage(*codec_, name_, parameter.matrix(), path_ + ".codec");
    } catch (const ConfigError& error) {
      throw ConfigError(cat(error.what(), "; so of ", parameter.map_name()));
    }
    if (!storage) refuse_calibrated(name_, path_ + ".codec");
    return storage;
  }

  Options options_;
  std::string path_;
  const BlockFormat* blocks_;  ///< null: the codec
  std::unique_ptr<Codec> codec_;
  std::string name_;
};

const Registration<Pass, QuantizeWeights> kQuantizeWeights("quantize_weights",
                                                           "weights of linear maps as codes of a codec");

}  // namespace
}  // namespace mla
