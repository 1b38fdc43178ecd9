#include "core/serve/model_card.h"

#include <algorithm>
#include <sstream>

#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/model/companions.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConversion = "conversion.json";

/// What the conversion says of itself, where its report stands beside the model.
Json conversion_of(const Checkpoint& model) {
  if (model.source.empty()) return {};
  const fs::path path = folder_of_model(model.source) / kConversion;
  return fs::exists(path) ? read_json(path) : Json();
}

std::string text_at(const Json& object, const char* key, const std::string& otherwise) {
  if (!object.is_object() || !object.contains(key)) return otherwise;
  return object.at(key).is_string() ? object.at(key).get<std::string>() : object.at(key).dump();
}

std::string methods_of(const Json& conversion) {
  std::string all;
  if (!conversion.is_object() || !conversion.value("compress", Json()).is_array())
    return "not recorded beside the model";
  for (const Json& pass : conversion.at("compress")) all += cat(all.empty() ? "" : ", then ", "`", pass.dump(), "`");
  return all;
}

std::int64_t bytes_of(const std::string& type) { return type == "float32" || type == "F32" ? 4 : 2; }

bool is_converted(const ModelSpec& spec) {
  return std::any_of(spec.layers.begin(), spec.layers.end(),
                     [](const LayerSpec& layer) { return !grouped_query_heads(*layer.attention); });
}

void print_sizes(const ModelSpec& spec, const ExportReport& report, std::ostream& out) {
  const std::int64_t source = cached_elements(as_uniform(spec).spec()), now = report.cached_values * spec.layer_count();
  const std::int64_t bytes = bytes_of(report.dtype);
  out << "| | |\n|---|---|\n"
      << "| layers | " << spec.layer_count() << " |\n"
      << "| cached values per token and layer | " << report.cached_values << " |\n"
      << "| cached bytes per token, all layers, 2 bytes a value | " << 2 * now << " (source: " << 2 * source << ") |\n"
      << "| weights stored as | " << report.dtype << " (" << bytes << " bytes where not quantized) |\n";
  for (const auto& [key, value] : report.details.items()) out << "| " << key << " | `" << value.dump() << "` |\n";
}

void print_losses(const Json& conversion, std::ostream& out) {
  out << "\n## Measured\n";
  if (!conversion.is_object() || !conversion.contains("layers")) {
    out << "Nothing is recorded beside the converted model; `mlaforge evaluate` measures it.\n";
    return;
  }
  out << "Relative error of keys and values by layer, from `" << kConversion
      << "`; it says little of the text that the model writes, which `mlaforge evaluate` measures.\n\n"
      << "| layer | keys and values | keys | values |\n|---|---|---|---|\n";
  for (const Json& layer : conversion.at("layers")) {
    const Json error = layer.value("relative_error", Json::object());
    out << "| " << text_at(layer, "layer", "") << " | " << text_at(error, "joint", "") << " | "
        << text_at(error, "key", "") << " | " << text_at(error, "value", "") << " |\n";
  }
}

}  // namespace

void write_model_card(const Checkpoint& model, const ExportReport& report, const fs::path& folder) {
  const ModelSpec& spec = model.decoder.spec();
  const Json conversion = conversion_of(model);
  std::ostringstream out;
  out << "# " << (model.source.empty() ? "A model" : model.source.filename().string()) << " as " << report.format
      << "\n\nWritten by `mlaforge export`, from a model of the family " << spec.family
      << (is_converted(spec) ? " whose attention was converted to multi-head latent attention" : "")
      << ".\n\n- source: " << model.source.filename().string() << "\n- method: " << methods_of(conversion) << "\n\n";
  print_sizes(spec, report, out);
  for (const std::string& note : report.notes) out << "\n- " << note;
  if (!report.notes.empty()) out << '\n';
  print_losses(conversion, out);
  out << "\n## Which engines run it\n| engine | runs it | |\n|---|---|---|\n";
  for (const EngineVerdict& engine : report.engines)
    out << "| " << engine.engine << " | " << (engine.loads ? "yes" : "no") << " | " << engine.reason << " |\n";
  out << "\n## How to load it\n";
  for (const std::string& line : report.how_to_load) out << line << '\n';
  write_file_atomically(folder / "README.md", out.str());
}

}  // namespace mla
