#include "core/model/adapter_files.h"

#include <ATen/ATen.h>

#include "core/attention/adapted_weights.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/model/safetensors.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAdapterConfig = "adapter_config.json";
constexpr const char* kAdapterWeights = "adapter_model.safetensors";
constexpr const char* kAdapterPrefix = "base_model.model.";

struct FoundAdapters {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  Json maps = Json::array();
  AdapterFields fields;
};

FoundAdapters find_adapters(const Decoder& decoder) {
  FoundAdapters found;
  // Visiting hands out references for replacement; nothing is replaced.
  const_cast<Decoder&>(decoder).visit_weights({[&](const std::string& name, Linear& map) {
                                                 const auto fields = adapters_of(map.storage());
                                                 if (!fields) return;
                                                 found.fields = *fields;
                                                 found.maps.push_back(name);
                                                 map.visit(kAdapterPrefix + name,
                                                           [&](const std::string& part, at::Tensor& tensor) {
                                                             if (part.find(".lora_") != std::string::npos)
                                                               found.tensors.emplace_back(part, tensor);
                                                           });
                                               },
                                               [](const std::string&, const at::Tensor&) {}});
  return found;
}

}  // namespace

void write_adapter_files(const Decoder& decoder, const fs::path& model, const std::string& base) {
  const fs::path folder = model / kAdapterFolder;
  const FoundAdapters found = find_adapters(decoder);
  std::error_code error;
  fs::remove(folder / kAdapterConfig, error);
  if (found.tensors.empty()) {
    fs::remove(folder / kAdapterWeights, error);
    return;
  }
  fs::create_directories(folder, error);
  if (error) throw DataError(cat(folder.string(), ": cannot be made: ", error.message()));
  write_safetensors(folder / kAdapterWeights, found.tensors);
  write_json(folder / kAdapterConfig, {{"peft_type", "LORA"},
                                       {"task_type", "CAUSAL_LM"},
                                       {"base_model_name_or_path", base},
                                       {"r", found.fields.rank},
                                       {"lora_alpha", found.fields.alpha},
                                       {"lora_dropout", 0.0},
                                       {"bias", "none"},
                                       {"fan_in_fan_out", false},
                                       {"inference_mode", true},
                                       {"target_modules", found.maps}});
}

}  // namespace mla
