#include "core/text/component_json.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

/// A token in the config: its spelling, or an object with its content.
std::optional<std::string> read_token(const LargeJson& json, const char* key, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return std::nullopt;
  if (found->is_object()) return member<std::string>(*found, "content", where + "." + key);
  return member<std::string>(json, key, where);
}

std::optional<bool> read_flag(const LargeJson& json, const char* key, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return std::nullopt;
  return member<bool>(json, key, where);
}

}  // namespace

TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return {};
  const LargeJson json = read_large_json(path);
  const std::string where = path.string() + ": tokenizer_config";
  if (!json.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(json)));
  return {member_or<std::string>(json, "tokenizer_class", "", where), read_token(json, "bos_token", where),
          read_token(json, "eos_token", where), read_flag(json, "add_bos_token", where),
          read_flag(json, "add_eos_token", where)};
}

}  // namespace mla
