// The rules by which engines load a folder of model type deepseek_v3 through a class of their own, without any code
// beside it; read in their sources: transformers 5.24, vLLM 0.33, SGLang 0.5.23, llama.cpp of October 2026, mlx-lm
// 0.32.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/model/safetensors.h"
#include "core/serve/export_format.h"

namespace mla {

inline constexpr const char *kTransformers = "transformers", *kVllm = "vLLM", *kSglang = "SGLang",
                            *kLlamaCpp = "llama.cpp", *kMlx = "MLX";
/// All of them, in the order in which reports list them.
std::vector<std::string> known_engines();

inline constexpr const char* kDeepSeekType = "deepseek_v3";
inline constexpr const char* kDeepSeekClass = "DeepseekV3ForCausalLM";

/// What a folder holds: its config.json, and its tensors, which are views of the files.
struct ServedFolder {
  Json config;
  WeightMap tensors;
};

/// Throws DataError for a folder that is none of a model.
ServedFolder open_served_folder(const std::filesystem::path& folder);

/// A rule that a folder breaks.
struct BrokenRule {
  std::vector<std::string> engines;  ///< those that do not load it for that, or load it and compute something else
  std::string reason;                ///< key or tensor, what it is, what it must be
};

/// What of config.json breaks a rule, and what of the tensors that it announces. Empty: every engine runs it.
std::vector<BrokenRule> broken_config_rules(const Json& config);
std::vector<BrokenRule> broken_tensor_rules(const ServedFolder& folder);

/// Engine by engine: loads, or the first rule that is broken; and what is to be known of those that load.
std::vector<EngineVerdict> judge_folder(const ServedFolder& folder);

}  // namespace mla
