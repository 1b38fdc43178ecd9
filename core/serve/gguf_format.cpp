// The format gguf: one file that llama.cpp loads.
#include <algorithm>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/model/companions.h"
#include "core/model/gguf_deepseek2.h"
#include "core/serve/export_format.h"
#include "core/serve/gguf_deepseek2.h"
#include "core/serve/gguf_plain.h"
#include "core/text/gguf_tokens.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhere = "--format gguf";
constexpr std::uint32_t kBlockVersion = 2;  // of ggml's definitions of blocks
/// Sizes that padding gives the latent and the rotated key.
constexpr FormPadding kFastSizes = {512, 64};

bool has_latents(const ModelSpec& spec) {
  return std::any_of(spec.layers.begin(), spec.layers.end(),
                     [](const LayerSpec& layer) { return latent_layout(*layer.attention) != nullptr; });
}

/// The tokenizer that goes into the file: the one that is asked for, or the model's; nothing where it has none.
std::optional<fs::path> tokenizer_for(const Checkpoint& model, const ExportRequest& request) {
  if (request.tokenizer == "none") return std::nullopt;
  if (request.tokenizer) return request.tokenizer;
  if (model.source.empty() || gguf::is_gguf(model.source))
    return model.source.empty() ? std::optional<fs::path>() : model.source;
  fs::path folder = folder_of_model(model.source);
  if (folder.empty()) folder = ".";
  try {
    tokenizer_file(folder);
  } catch (const DataError&) {  // there is none
    return std::nullopt;
  }
  return folder;
}

void add_file_keys(const Checkpoint& model, const std::string& architecture, const std::string& type,
                   gguf::Writer& writer) {
  writer.text("general.architecture", architecture).text("general.type", "model");
  if (!model.source.empty()) writer.text("general.name", model.source.stem().string());
  writer.number("general.file_type", gguf_file_type(type));
  if (type.starts_with("Q")) writer.number("general.quantization_version", kBlockVersion);
}

class Gguf final : public ExportFormat {
 public:
  explicit Gguf(Options) {}

  std::vector<std::string> types() const override { return written_gguf_types(); }
  std::string own_name(const std::string& type) const override {
    if (type == "float32") return "F32";
    if (type == "float16") return "F16";
    return type == "bfloat16" ? "BF16" : type;
  }
  bool writes_one_file() const override { return true; }

  ExportReport write(const Checkpoint& model, const ExportRequest& request, const fs::path& folder) const override {
    gguf::Writer writer;
    GgufTensors tensors(writer, request.dtype);
    ExportReport report;
    const bool latent = has_latents(model.decoder.spec());
    std::optional<DeepSeekForm> form;
    if (latent) {
      form.emplace(model.decoder, request.pad ? kFastSizes : FormPadding{}, kWhere);
      add_latent(*form, model, request, writer, tensors, report);
    } else {
      add_plain(model, request, writer, tensors, report);
    }
    add_tokenizer(model, request, writer, report);
    writer.write(folder / kGgufExport);
    report_tensors(tensors, report);
    report.details["bytes"] = writer.file_size();
    return report;
  }

 private:
  static void add_latent(DeepSeekForm& form, const Checkpoint& model, const ExportRequest& request,
                         gguf::Writer& writer, GgufTensors& tensors, ExportReport& report) {
    add_file_keys(model, kDeepSeek2, request.dtype, writer);
    const double latent = request.measured_latent.value_or(form.largest_latent());
    add_deepseek2_gguf(form, latent, kWhere, writer, tensors);
    const DeepSeekSizes& sizes = form.sizes();
    report.cached_values = sizes.cached();
    report.details = {{"architecture", kDeepSeek2},
                      {"kv_lora_rank", sizes.latent},
                      {"rope_dimension_count", sizes.rotated},
                      {"content_width", sizes.content},
                      {"value_width", sizes.value},
                      {"rope_freq_base", form.rope().theta},
                      {"latent_norm_error", form.norm()->error(latent)}};
    report.engines = {{"llama.cpp", true, "architecture deepseek2; caches latent and rotated key once for all heads"}};
  }

  static void add_plain(const Checkpoint& model, const ExportRequest& request, gguf::Writer& writer,
                        GgufTensors& tensors, ExportReport& report) {
    const ModelSpec& spec = model.decoder.spec();
    if (request.pad)
      throw ConfigError(cat(kWhere, ": --pad: the model is not converted, it has no latent that could be padded"));
    const std::string architecture = plain_gguf_architecture(spec, kWhere);
    add_file_keys(model, architecture, request.dtype, writer);
    add_plain_gguf(model.decoder, kWhere, writer, tensors);
    report.cached_values = cached_elements(spec.attention(0));
    report.details = {{"architecture", architecture}};
    report.engines = {{"llama.cpp", true, cat("architecture ", architecture, "; keys and values of all KV heads")}};
  }

  static void add_tokenizer(const Checkpoint& model, const ExportRequest& request, gguf::Writer& writer,
                            ExportReport& report) {
    const ModelSpec& spec = model.decoder.spec();
    if (const auto tokenizer = tokenizer_for(model, request)) {
      add_gguf_tokenizer(*tokenizer, spec.vocabulary, spec.ends, writer);
      return;
    }
    add_no_gguf_tokenizer(writer);
    report.notes.push_back("the file holds no tokenizer: llama.cpp takes and gives token ids alone");
  }

  static void report_tensors(const GgufTensors& tensors, ExportReport& report) {
    if (!tensors.without_blocks().empty()) {
      report.notes.push_back(cat(tensors.without_blocks().size(),
                                 " matrices are F16, as their rows are no whole blocks "
                                 "of 32: ",
                                 tensors.without_blocks().front(), " and its like"));
    }
    report.how_to_load = {"```", cat("llama-cli -m ", kGgufExport, " -p \"Once upon a time\""), "```"};
  }
};

const Registration<ExportFormat, Gguf> kGgufFormat(
    "gguf", "one file for llama.cpp: architecture deepseek2, or that of an unconverted model");

}  // namespace
}  // namespace mla
