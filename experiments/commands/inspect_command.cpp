#include <ATen/ATen.h>

#include "core/base/fields.h"
#include "experiments/cache/model_cache.h"
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
    const CacheConfig cache = cache_of_model(model_);
    const CacheBytes bytes = count_cache_bytes(checkpoint.decoder.spec(), cache_format(cache, kModelCacheFile), kTokens,
                                               at::TensorOptions(dtype).device(placement.device));
    console.text() << "cache of " << kTokens << " tokens: " << grouped(bytes.predicted) << " bytes predicted, "
                   << grouped(bytes.counted) << " counted in buffers\n";
    Json report = to_json(summary, dtype);
    report["cache"] = {{"tokens", kTokens}, {"predicted_bytes", bytes.predicted}, {"counted_bytes", bytes.counted}};
    if (!cache.is_plain()) tell_codes(cache, bytes, report, console.text());
    const CacheBytes weights{checkpoint.decoder.predicted_weight_bytes(), checkpoint.decoder.weight_bytes()};
    console.text() << "weights: " << grouped(weights.predicted) << " bytes predicted, " << grouped(weights.counted)
                   << " counted in buffers\n";
    report["weights"] = {{"predicted_bytes", weights.predicted}, {"counted_bytes", weights.counted}};
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  static constexpr std::int64_t kTokens = 64;
  /// Codes take other bytes than elements would.
  static void tell_codes(const CacheConfig& cache, const CacheBytes& bytes, Json& report, std::ostream& out) {
    const std::int64_t of_token = (bytes.counted + kTokens - 1) / kTokens;
    const std::int64_t of_source = report["source_cached_elements_per_token"].get<std::int64_t>() *
                                   static_cast<std::int64_t>(c10::elementSize(
                                       parse_dtype(report["cache_dtype"].get<std::string>(), "cache_dtype")));
    out << "cache as " << kModelCacheFile << " stores it (" << cache.label() << "): " << grouped(of_token)
        << " bytes per token, " << rounded(static_cast<double>(of_token) / static_cast<double>(of_source), 4)
        << " of the source's " << grouped(of_source) << "\n";
    report["cached_bytes_per_token"] = of_token;
    report["cache_ratio"] = static_cast<double>(of_token) / static_cast<double>(of_source);
    report["cache"]["storage"] = write_fields(cache);
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
