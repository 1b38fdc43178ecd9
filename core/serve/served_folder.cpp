#include "core/serve/served_folder.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/model/weight_files.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

std::int64_t size_in(const Json& config, const char* key) {
  const Json value = config.value(key, Json());
  return value.is_number_integer() ? value.get<std::int64_t>() : 0;
}

/// The sizes for which every fast kernel exists.
constexpr std::int64_t kFavouriteLatent = 512, kFavouriteRotated = 64;

/// What users of an engine that loads the folder want to know.
std::string remark_on(const std::string& engine, const Json& config) {
  const std::int64_t latent = size_in(config, "kv_lora_rank"), rotated = size_in(config, "qk_rope_head_dim");
  const bool favourite = latent == kFavouriteLatent && rotated == kFavouriteRotated;
  const std::string sizes = cat(latent, " + ", rotated);
  if (engine == kTransformers) return "caches the latent, expands it at every step: for tests rather than for speed";
  if (engine == kVllm)
    return favourite ? "every backend of its multi-head latent attention, the CPU's too"
                     : cat("backend TRITON_MLA; others, and the CPU's, want 512 + 64 and not ", sizes, " (--pad)");
  if (engine == kSglang)
    return favourite ? "triton, flashinfer, flashmla; not on a CPU, which wants yarn"
                     : cat("backend triton; others want 512 + 64 and not ", sizes, " (--pad)");
  if (engine == kLlamaCpp) return "as --format gguf; its own converter leaves out a key that the file needs";
  return "absorbed decode";
}

}  // namespace

std::vector<std::string> known_engines() { return {kTransformers, kVllm, kSglang, kLlamaCpp, kMlx}; }

ServedFolder open_served_folder(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  if (!fs::exists(path)) throw DataError(cat(folder.string(), ": holds no config.json"));
  Json config = read_json(path);
  if (!config.is_object()) throw DataError(cat(path.string(), ": expected an object, found ", kind_of(config)));
  return {std::move(config), read_weight_files(folder)};
}

std::vector<EngineVerdict> judge_folder(const ServedFolder& folder) {
  std::vector<BrokenRule> broken = broken_config_rules(folder.config);
  // Without sizes there is nothing to hold tensors against.
  if (std::none_of(broken.begin(), broken.end(),
                   [](const BrokenRule& rule) { return rule.engines.size() == known_engines().size(); })) {
    const std::vector<BrokenRule> tensors = broken_tensor_rules(folder);
    broken.insert(broken.end(), tensors.begin(), tensors.end());
  }
  std::vector<EngineVerdict> verdicts;
  for (const std::string& engine : known_engines()) {
    const auto rule = std::find_if(broken.begin(), broken.end(), [&](const BrokenRule& one) {
      return std::find(one.engines.begin(), one.engines.end(), engine) != one.engines.end();
    });
    const bool loads = rule == broken.end();
    verdicts.push_back({engine, loads, loads ? remark_on(engine, folder.config) : rule->reason});
  }
  return verdicts;
}

}  // namespace mla
