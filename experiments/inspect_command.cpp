#include "experiments/command.h"
#include "experiments/dtype.h"
#include "experiments/model_summary.h"

namespace mla {
namespace {

class Inspect final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("model", model_, "MODEL", "a model folder, or a llama2.c .bin file");
    options.add("dtype", dtype_, "TYPE", "number type of the cache, for bytes: " + dtype_choices());
  }

  ExitCode run(Console& console) override {
    const at::ScalarType dtype = parse_dtype(dtype_, "--dtype");
    // Without a dtype weights stay views of the file, of which only headers are touched.
    const Checkpoint checkpoint = load_checkpoint(model_, {.dtype = std::nullopt, .check_finite = false});
    const ModelSummary summary = summarize_model(checkpoint);
    print(summary, dtype, console.text());
    console.report(to_json(summary, dtype));
    return ExitCode::kDone;
  }

 private:
  std::filesystem::path model_;
  std::string dtype_ = "bfloat16";
};

const CommandRegistration<Inspect> kInspect(
    "inspect", "geometry, parameters and KV cache of a model",
    {"mlaforge inspect ../shared/data/weights/tinystories-656k",
     "mlaforge inspect ../shared/data/weights/stories260K/stories260K.bin --json"});

}  // namespace
}  // namespace mla
