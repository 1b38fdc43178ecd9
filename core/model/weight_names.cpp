#include "core/model/weight_names.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/json.h"

namespace mla {
namespace {

constexpr std::string_view kModel = "model.", kCompiled = "_orig_mod.";

bool belongs_below_model(const std::string& name) {
  return name.starts_with("embed_tokens.") || name.starts_with("layers.") || name.starts_with("norm.");
}

std::string share_of(std::ptrdiff_t count, std::size_t all) {
  return static_cast<std::size_t>(count) == all ? "every name" : cat(count, " of ", all, " names");
}

}  // namespace

WeightMap with_usual_names(WeightMap weights, const std::string& where) {
  const auto is_compiled = [](const auto& entry) { return entry.first.find(kCompiled) != std::string::npos; };
  if (const auto first = std::find_if(weights.begin(), weights.end(), is_compiled); first != weights.end()) {
    const auto count = std::count_if(weights.begin(), weights.end(), is_compiled);
    const bool begins = first->first.starts_with(kCompiled);
    throw DataError(cat(where, ": ", share_of(count, weights.size()), begins ? " begins with " : " holds ", kCompiled,
                        ", as ", brief_text(first->first),
                        " does: saved through torch.compile's wrapper, and such "
                        "weights are found by no library; save the model's _orig_mod, or take the prefix out"));
  }
  const bool has_prefix =
      std::any_of(weights.begin(), weights.end(), [](const auto& entry) { return entry.first.starts_with(kModel); });
  if (has_prefix) return weights;
  WeightMap renamed;
  for (auto& [name, tensor] : weights) {
    renamed.emplace(belongs_below_model(name) ? std::string(kModel) + name : name, std::move(tensor));
  }
  return renamed;
}

std::string what_is_there(const WeightMap& weights, const std::string& missing) {
  if (weights.empty()) return "";
  for (const auto& [name, tensor] : weights) {
    if (name.size() <= missing.size() || !name.ends_with("." + missing)) continue;
    const std::string prefix = name.substr(0, name.size() - missing.size());
    const auto count = std::count_if(weights.begin(), weights.end(),
                                     [&](const auto& entry) { return entry.first.starts_with(prefix); });
    return cat("; the file holds ", brief_text(name), ": ", share_of(count, weights.size()),
               " not yet used begins with ", brief_text(prefix));
  }
  return cat("; of the file's tensors ", weights.size(), " are not used yet, the first is ",
             brief_text(weights.begin()->first));
}

}  // namespace mla
