#include <ATen/ATen.h>

#include "core/kv_cache/layer_cache.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/model/dtype.h"
#include "experiments/model/model_summary.h"
#include "experiments/model/placement_options.h"

namespace mla {
namespace {

class Inspect final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("model", model_, "MODEL", "a model folder, a GGUF or a llama2.c .bin file");
    model_options_.declare(options, "number type of the cache, for bytes");
  }

  ExitCode run(Console& console) override {
    const Placement placement = model_options_.placement();
    const at::ScalarType dtype = placement.compute;
    // Weights stay views of the file, of which only headers are touched; the cache's buffers alone are made.
    const Checkpoint checkpoint = load_checkpoint(model_, {.placement = {.storage = std::nullopt},
                                                           .weights = model_options_.held_weights(),
                                                           .check_finite = false,
                                                           .values = false});
    const ModelSummary summary = summarize_model(checkpoint);
    print(summary, dtype, console.text());
    const LayerBytes bytes = count(checkpoint.decoder, at::TensorOptions(dtype).device(placement.device));
    console.text() << "cache of " << kTokens << " tokens: " << grouped(bytes.predicted) << " bytes predicted, "
                   << grouped(bytes.counted) << " counted in buffers\n";
    Json report = to_json(summary, dtype);
    report["cache"] = {{"tokens", kTokens}, {"predicted_bytes", bytes.predicted}, {"counted_bytes", bytes.counted}};
    const LayerBytes weights{checkpoint.decoder.predicted_weight_bytes(), checkpoint.decoder.weight_bytes()};
    console.text() << "weights: " << grouped(weights.predicted) << " bytes predicted, " << grouped(weights.counted)
                   << " counted in buffers\n";
    report["weights"] = {{"predicted_bytes", weights.predicted}, {"counted_bytes", weights.counted}};
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  static constexpr std::int64_t kTokens = 64;
  struct LayerBytes {
    std::int64_t predicted = 0, counted = 0;
  };
  /// What the cache of one sequence would hold, and what its buffers do hold.
  static LayerBytes count(const Decoder& decoder, const at::TensorOptions& like) {
    LayerBytes bytes;
    for (const LayerSpec& layer : decoder.spec().layers) {
      const std::vector<StreamShape> streams = layer.attention->streams();
      bytes.predicted += kTokens * elements_per_token(streams) * static_cast<std::int64_t>(like.dtype().itemsize());
      LayerCache cache(streams, 1, like);
      for (std::size_t i = 0; i < streams.size(); ++i) {
        cache.push(i, at::zeros({1, streams[i].heads, kTokens, streams[i].width}, like));
      }
      bytes.counted += cache.bytes();
    }
    return bytes;
  }

  std::filesystem::path model_;
  PlacementOptions model_options_{.dtype = "bfloat16"};
};

const CommandRegistration<Inspect> kInspect(
    "inspect", "geometry, parameters and KV cache of a model",
    {"mlaforge inspect ../shared/data/weights/tinystories-656k",
     "mlaforge inspect ../shared/data/weights/stories260K/stories260K.bin --json"});

}  // namespace
}  // namespace mla
