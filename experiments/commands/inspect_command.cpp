#include <ATen/ATen.h>

#include "core/kv_cache/layer_cache.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/model/dtype.h"
#include "experiments/model/model_summary.h"

namespace mla {
namespace {

class Inspect final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("model", model_, "MODEL", "a model folder, a GGUF or a llama2.c .bin file");
    options.add("dtype", dtype_, "TYPE", "number type of the cache, for bytes: " + dtype_choices());
  }

  ExitCode run(Console& console) override {
    const at::ScalarType dtype = parse_dtype(dtype_, "--dtype");
    // Without a dtype weights stay views of the file, of which only headers are touched.
    const Checkpoint checkpoint =
        load_checkpoint(model_, {.dtype = std::nullopt, .check_finite = false, .values = false});
    const ModelSummary summary = summarize_model(checkpoint);
    print(summary, dtype, console.text());
    const LayerBytes bytes = count(checkpoint.decoder, dtype);
    console.text() << "cache of " << kTokens << " tokens: " << grouped(bytes.predicted) << " bytes predicted, "
                   << grouped(bytes.counted) << " counted in buffers\n";
    Json report = to_json(summary, dtype);
    report["cache"] = {{"tokens", kTokens}, {"predicted_bytes", bytes.predicted}, {"counted_bytes", bytes.counted}};
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  static constexpr std::int64_t kTokens = 64;
  struct LayerBytes {
    std::int64_t predicted = 0, counted = 0;
  };
  /// What the cache of one sequence would hold, and what its buffers do hold.
  static LayerBytes count(const Decoder& decoder, at::ScalarType dtype) {
    LayerBytes bytes;
    for (const LayerSpec& layer : decoder.spec().layers) {
      const std::vector<StreamShape> streams = layer.attention->streams();
      bytes.predicted += kTokens * elements_per_token(streams) * static_cast<std::int64_t>(c10::elementSize(dtype));
      LayerCache cache(streams, 1, at::TensorOptions(dtype));
      for (std::size_t i = 0; i < streams.size(); ++i) {
        cache.push(i, at::zeros({1, streams[i].heads, kTokens, streams[i].width}, dtype));
      }
      bytes.counted += cache.bytes();
    }
    return bytes;
  }

  std::filesystem::path model_;
  std::string dtype_ = "bfloat16";
};

const CommandRegistration<Inspect> kInspect(
    "inspect", "geometry, parameters and KV cache of a model",
    {"mlaforge inspect ../shared/data/weights/tinystories-656k",
     "mlaforge inspect ../shared/data/weights/stories260K/stories260K.bin --json"});

}  // namespace
}  // namespace mla
