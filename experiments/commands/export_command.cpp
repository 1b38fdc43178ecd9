#include <chrono>

#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/serve/export_format.h"
#include "core/serve/latent_size.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/data/token_data.h"
#include "experiments/model/dtype.h"
#include "experiments/model/model_files.h"
#include "experiments/model/placement_options.h"

namespace mla {
namespace {

/// Rows of calibration text, and tokens of one: latents of a few thousand tokens tell their size.
constexpr std::int64_t kExportRows = 32, kExportLength = 512;

/// Writes a converted model so that other engines load it.
class Export final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("model", model_, "MODEL", "a model folder that `mlaforge convert` wrote, or a GGUF file");
    options.require("format", format_, "NAME", "deepseek_v3 | gguf | transformers_code (mlaforge list export_format)");
    options.require("output,o", output_, "FOLDER", "a new folder for the exported model; of gguf also a file, *.gguf");
    options.add("calibration", calibration_, "FILE",
                "text, or JSON {\"ids\": [[…]]}, on which the size of latents is measured; default: a bound from the "
                "weights");
    options.add("tokenizer", tokenizer_, "PATH",
                "tokenizer for the calibration text, and the one that a GGUF file gets (none: it gets none); "
                "default: beside the model");
    options.add("dtype", dtype_, "TYPE",
                "number type of the weights: float32 | bfloat16 | float16, and of gguf others; default: as the model's "
                "are held");
    options.add("type", type_, "TYPE", "the same, as GGUF files call it: F32 | F16 | BF16 | Q8_0 | Q4_0 | Q4_1");
    options.flag("pad", pad_,
                 "pad the latent to 512 and the rotated key to 64 values, with zeros: for engines and "
                 "kernels that know no other size");
  }

  ExitCode run(Console& console) override {
    install_interrupt_handler();
    const auto start = std::chrono::steady_clock::now();
    const auto format = Registry<ExportFormat>::instance().find(format_, "--format").make(Json::object(), "--format");
    expect_free_output(*format, output_);
    const Checkpoint model = load_checkpoint(model_, {.placement = {.storage = std::nullopt}});
    if (dtype_ && type_) throw ConfigError("--type: says the same as --dtype; give one of them");
    ExportRequest request{export_type(*format, dtype_ ? dtype_ : type_, model.decoder), pad_, {}, tokenizer_};
    if (calibration_) request.measured_latent = measured(model.decoder);
    const ExportReport report = export_model(model, format_, request, output_);
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    Json json = report.write();
    json["model"] = model_.string();
    json["output"] = output_.string();
    json["seconds"] = passed.count();
    print(report, console.text());
    console.report(json);
    return ExitCode::kDone;
  }

 private:
  double measured(const Decoder& decoder) const {
    DataOptions data;
    data.files = {calibration_->string()};
    data.length = std::min(kExportLength, decoder.spec().max_positions);
    data.long_documents = "split";
    data.max_rows = kExportRows;
    data.validate("--calibration");
    std::unique_ptr<Tokenizer> tokenizer;
    if (!holds_token_ids(*calibration_)) {
      const bool told = tokenizer_ && *tokenizer_ != "none";
      tokenizer = load_model_tokenizer(model_, told ? tokenizer_ : std::nullopt, decoder.spec());
    }
    const TokenRows rows = load_rows(data, tokenizer.get(), decoder.spec().vocabulary, 1);
    Progress bar("calibrate", rows.tokens(), "tokens");
    return measure_latents(decoder, rows.rows, [&](std::int64_t count) {
      bar.advance(count);
      check_interrupt();
    });
  }

  void print(const ExportReport& report, std::ostream& out) const {
    Table table({"engine", "loads", "cached values/token and layer", ""});
    for (const EngineVerdict& engine : report.engines)
      table.add({engine.engine, engine.loads ? "yes" : "no", engine.loads ? grouped(report.cached_values) : "",
                 engine.reason});
    table.print(out);
    for (const std::string& note : report.notes) out << note << '\n';
    out << "written to " << output_.string() << " as " << report.format << ", " << report.dtype << '\n';
  }

  std::filesystem::path model_, output_;
  std::string format_;
  std::optional<std::filesystem::path> calibration_, tokenizer_;
  std::optional<std::string> dtype_, type_;
  bool pad_ = false;
};

const CommandRegistration<Export> kExport(
    "export", "write a converted model for transformers, vLLM, SGLang, llama.cpp or MLX",
    {"mlaforge export --model CONVERTED --format deepseek_v3 --output OUT",
     "mlaforge export --model CONVERTED --format gguf --output OUT.gguf --type Q8_0",
     "mlaforge export --model CONVERTED --format deepseek_v3 --output OUT --pad --calibration text.txt"});

}  // namespace
}  // namespace mla
