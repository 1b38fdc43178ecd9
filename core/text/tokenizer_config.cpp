#include "core/text/tokenizer_config.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLargestConfiguredId = 1 << 24;
constexpr std::size_t kMostNames = 1000;

[[noreturn]] void unfit(const std::string& where, const Json& value, const char* expected) {
  throw DataError(cat(where, ": expected ", expected, ", found ", brief(value)));
}

bool read_bool(const Json& object, const char* key, bool otherwise, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return otherwise;
  if (!found->is_boolean()) unfit(cat(where, ".", key), *found, "true or false");
  return found->get<bool>();
}

std::optional<bool> read_flag(const Json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::nullopt;
  return read_bool(object, key, false, where);
}

AddedToken token_of_name(std::string content) {
  AddedToken token;
  token.content = std::move(content);
  token.special = true;
  return token;
}

/// A token in a config: its spelling, or an object with its content and flags.
AddedToken read_config_token(const Json& json, const std::string& where) {
  if (json.is_string()) return token_of_name(json.get<std::string>());
  if (!json.is_object()) unfit(where, json, "a token: a string or an object");
  const auto content = json.find("content");
  if (content == json.end()) throw DataError(cat(where, ".content: missing"));
  if (!content->is_string()) unfit(where + ".content", *content, "a string");
  AddedToken token;
  token.content = content->get<std::string>();
  token.single_word = read_bool(json, "single_word", false, where);
  token.left_strip = read_bool(json, "lstrip", false, where);
  token.right_strip = read_bool(json, "rstrip", false, where);
  token.special = read_bool(json, "special", false, where);
  token.normalized = read_bool(json, "normalized", !token.special, where);
  return token;
}

/// A name of an added token has that token's flags.
void use_flags_of_added(TokenizerConfig& config) {
  std::unordered_map<std::string, const AddedToken*> added;
  for (const NumberedToken& numbered : config.added) added[numbered.token.content] = &numbered.token;
  for (auto& [key, token] : config.named) {
    const auto known = token ? added.find(token->content) : added.end();
    if (known != added.end()) token = *known->second;
  }
}

class ConfigReader {
 public:
  explicit ConfigReader(const fs::path& folder) : folder_(folder) {
    config_.file = folder / "tokenizer_config.json";
    json_ = read(config_.file);
  }
  ConfigReader(const Json& json, const fs::path& file) : json_(json), where_(file.string() + ": tokenizer_config") {
    config_.file = file;
    config_.found = true;
  }

  TokenizerConfig result() && {
    read_class();
    refuse_unsupported();
    read_names(json_, where_);
    const bool has_decoder = json_.contains("added_tokens_decoder");
    if (has_decoder) read_added_decoder();
    // As transformers: the older files count only where the config has no list of its own.
    if (!has_decoder && folder_) {
      read_special_tokens_map();
      read_added_tokens_file();
    }
    std::stable_sort(config_.added.begin(), config_.added.end(),
                     [](const NumberedToken& a, const NumberedToken& b) { return a.id < b.id; });
    use_flags_of_added(config_);
    config_.add_bos = read_flag(json_, "add_bos_token", where_);
    config_.add_eos = read_flag(json_, "add_eos_token", where_);
    config_.add_prefix_space = read_flag(json_, "add_prefix_space", where_);
    config_.legacy = read_flag(json_, "legacy", where_);
    return std::move(config_);
  }

 private:
  /// The object in `path`; an empty one when there is no such file.
  Json read(const fs::path& path) {
    where_ = path.string() + ": " + path.stem().string();
    if (!fs::exists(path)) return Json::object();
    Json json = read_json(path);
    if (!json.is_object()) throw DataError(cat(where_, ": expected an object, found ", kind_of(json)));
    config_.found = true;
    return json;
  }

  void read_class() {
    const auto found = json_.find("tokenizer_class");
    if (found == json_.end() || found->is_null()) return;
    if (!found->is_string()) unfit(where_ + ".tokenizer_class", *found, "a string");
    config_.tokenizer_class = found->get<std::string>();
    if (config_.tokenizer_class.ends_with("Fast")) config_.tokenizer_class.resize(config_.tokenizer_class.size() - 4);
  }

  void refuse_unsupported() {
    for (const char* key : {"split_special_tokens", "fix_mistral_regex"}) {
      if (read_bool(json_, key, false, where_)) throw DataError(cat(where_, ".", key, " = true: not supported"));
    }
    const auto sampling = json_.find("sp_model_kwargs");
    if (sampling != json_.end() && !sampling->is_null() && !sampling->empty()) {
      throw DataError(cat(where_, ".sp_model_kwargs = ", brief(*sampling), ": not supported; ids would be random"));
    }
  }

  void name(const std::string& key, std::optional<AddedToken> token) {
    const auto known =
        std::find_if(config_.named.begin(), config_.named.end(), [&](const auto& entry) { return entry.first == key; });
    if (config_.named.size() == kMostNames) throw DataError(cat(where_, ": more than ", kMostNames, " keys …_token"));
    if (known == config_.named.end()) {
      config_.named.emplace_back(key, std::move(token));
    } else {
      known->second = std::move(token);
    }
  }

  /// The *_token of a file, and its lists of further ones.
  void read_names(const Json& json, const std::string& where) {
    for (const auto& [key, value] : json.items()) {
      const std::string here = cat(where, ".", for_message(key));
      if (key.starts_with("add_")) continue;
      if (key.ends_with("_token") && value.is_null()) name(key, std::nullopt);
      const bool is_standard = is_standard_token(key);
      if (key.ends_with("_token") && (value.is_string() || value.is_object() || (is_standard && !value.is_null()))) {
        name(key, read_config_token(value, here));
        if (value.is_string()) plain_names_.insert(value.get<std::string>());
      }
    }
    // "additional_…" is the older name, which gives way.
    for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
      const auto found = json.find(key);
      if (found == json.end() || found->is_null() || found->empty()) continue;
      read_further(*found, cat(where, ".", key));
      return;
    }
  }

  void read_further(const Json& json, const std::string& where) {
    if (!json.is_array() && !json.is_object()) unfit(where, json, "a list of tokens");
    config_.additional.clear();
    for (const auto& [key, value] : json.items()) {
      const AddedToken token = read_config_token(value, cat(where, "[", for_message(key), "]"));
      if (json.is_object()) {
        name(key, token);
      } else {
        config_.additional.push_back(token);
        if (value.is_string()) plain_names_.insert(token.content);
      }
    }
  }

  void add(std::int64_t id, AddedToken token, const std::string& where) {
    if (id < 0 || id > kLargestConfiguredId) {
      throw DataError(cat(where, ": id ", id, ": expected 0 to ", kLargestConfiguredId));
    }
    config_.added.push_back({id, std::move(token)});
  }

  void read_added_decoder() {
    const Json& list = json_["added_tokens_decoder"];
    const std::string where = where_ + ".added_tokens_decoder";
    if (!list.is_object()) unfit(where, list, "an object of tokens by id");
    for (const auto& [key, value] : list.items()) {
      const std::string here = cat(where, ".", for_message(key));
      if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos) {
        throw DataError(cat(here, ": expected an id from 0 to ", kLargestConfiguredId));
      }
      if (!value.is_object()) unfit(here, value, "an object with the token's content and flags");
      add(std::stoll(key), read_config_token(value, here), here);
    }
  }

  void read_special_tokens_map() {
    const fs::path path = *folder_ / "special_tokens_map.json";
    const Json json = read(path);
    for (const auto& [key, value] : json.items()) {
      if (value.is_object() && key.ends_with("_token")) {
        AddedToken token = read_config_token(value, cat(where_, ".", for_message(key)));
        if (!value.contains("normalized")) token.normalized = false;
        token.special = true;
        plain_names_.insert(token.content);
        name(key, token);
      } else {
        read_names(Json{{key, value}}, where_);
      }
    }
  }

  void read_added_tokens_file() {
    const Json json = read(*folder_ / "added_tokens.json");
    for (const auto& [content, id] : json.items()) {
      const std::string here = cat(where_, ".", for_message(content));
      if (!id.is_number_integer()) unfit(here, id, "an id");
      AddedToken token;
      token.content = content;
      token.special = plain_names_.contains(content);
      token.normalized = !token.special;
      add(id.is_number_unsigned() && id.get<std::uint64_t>() > kLargestConfiguredId ? kLargestConfiguredId + 1
                                                                                    : id.get<std::int64_t>(),
          token, here);
    }
  }

  std::optional<fs::path> folder_;  // None: no files lie beside the config.
  TokenizerConfig config_;
  Json json_;
  std::string where_;
  std::unordered_set<std::string> plain_names_;  // Of tokens that are special in added_tokens.json as well.
};

}  // namespace

TokenizerConfig read_tokenizer_config(const fs::path& folder) { return ConfigReader(folder).result(); }

TokenizerConfig read_tokenizer_config(const Json& json, const fs::path& file) {
  return ConfigReader(json, file).result();
}

}  // namespace mla
