// LoRA adapters as files of their own, as PEFT reads them.
#pragma once

#include <filesystem>
#include <string>

#include "core/model/decoder.h"

namespace mla {

/// The folder of those files inside a model's.
inline constexpr const char* kAdapterFolder = "adapter";

/// Writes adapter_model.safetensors and adapter_config.json into MODEL/adapter where the model has adapters, which
/// model.safetensors holds as well; takes such files of an earlier model away where it has none. `base`: the model
/// that they were trained beside, for the config.
void write_adapter_files(const Decoder& decoder, const std::filesystem::path& model, const std::string& base);

}  // namespace mla
