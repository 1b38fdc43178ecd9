#include "experiments/cell/identity.h"

#include <algorithm>
#include <array>

#include "core/base/hash.h"
#include "core/base/identity.h"

namespace mla {
namespace {

constexpr const char* kTokenizerRole = "tokenizer";

/// The rule of records before numerics version 2.
std::string earlier_hash(const CellPlan& cell, const Json& data_hashes) {
  Json identity = cell.config;
  for (const char* key :
       {"name", "description", "results", "save_model", "grid", "baseline", "skip_invalid", "checkpoint_seconds"})
    identity.erase(key);
  if (cell.options.device == ExperimentConfig{}.device) identity.erase("device");
  if (cell.options.products == ExperimentConfig{}.products) identity.erase("products");
  identity["data_hashes"] = data_hashes;
  return hash_json(identity);
}

/// Whether a value at `path` ("evaluate[].data.files[]") names a place or is for people.
bool is_path_or_name(const std::string& path) {
  constexpr std::array kWhole = {"name", "description", "results", "save_model", "model.path", "model.tokenizer"};
  constexpr std::array kEnds = {".files[]", "].items", ".few_shot_items"};
  const auto is_whole = [&](const char* one) { return path == one; };
  const auto is_end = [&](const char* one) { return path.ends_with(one); };
  return std::any_of(kWhole.begin(), kWhole.end(), is_whole) || std::any_of(kEnds.begin(), kEnds.end(), is_end);
}

bool same_but_for_paths(const Json& written, const Json& expanded, const std::string& path) {
  if (written == expanded || is_path_or_name(path)) return true;
  if (written.type() != expanded.type() || written.size() != expanded.size() || written.is_primitive()) return false;
  if (written.is_array()) {
    for (std::size_t i = 0; i < written.size(); ++i) {
      if (!same_but_for_paths(written[i], expanded[i], path + "[]")) return false;
    }
    return true;
  }
  for (const auto& [key, value] : written.items()) {
    if (!expanded.contains(key)) return false;
    if (!same_but_for_paths(value, expanded.at(key), path.empty() ? key : path + "." + key)) return false;
  }
  return true;
}

}  // namespace

bool differ_in_paths_alone(const Json& written, const Json& expanded) {
  return same_but_for_paths(written, expanded, "");
}

CellIdentity identify(const CellPlan& cell, Session& session) {
  const Json data_hashes = session.data_hashes(cell.options);
  CellIdentity identity;
  identity.hash = hash_json({{"config", identity_of_fields(cell.options)}, {"data_hashes", data_hashes}});
  const bool tokenizer_apart = std::any_of(data_hashes.items().begin(), data_hashes.items().end(),
                                           [](const auto& item) { return item.key().starts_with(kTokenizerRole); });
  if (!tokenizer_apart && differ_in_paths_alone(cell.config, cell.expanded))
    identity.earlier = earlier_hash(cell, data_hashes);
  return identity;
}

}  // namespace mla
