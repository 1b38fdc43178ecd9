#include "core/text/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "core/base/error.h"
#include "core/gguf/values.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";

/// Keys that decide no ids of a text here: tokens that stand between other things than a text and its end (eot and eom
/// end a turn of a chat, which the model's description says), and copies of what is read.
constexpr std::array kWithoutEffect = {
    "tokenizer.ggml.seperator_token_id",  // as ggml spells it
    "tokenizer.ggml.separator_token_id", "tokenizer.ggml.cls_token_id",     "tokenizer.ggml.mask_token_id",
    "tokenizer.ggml.eot_token_id",       "tokenizer.ggml.eom_token_id",     "tokenizer.ggml.prefix_token_id",
    "tokenizer.ggml.suffix_token_id",    "tokenizer.ggml.middle_token_id",  "tokenizer.ggml.fim_pre_token_id",
    "tokenizer.ggml.fim_suf_token_id",   "tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",   "tokenizer.ggml.fim_sep_token_id", "tokenizer.ggml.token_type_count",
    "tokenizer.ggml.add_sep_token"};
constexpr std::array kRead = {kGgufTokenizerModel,
                              kTokens,
                              kTypes,
                              "tokenizer.ggml.pre",
                              "tokenizer.ggml.scores",
                              "tokenizer.ggml.merges",
                              "tokenizer.ggml.bos_token_id",
                              "tokenizer.ggml.eos_token_id",
                              "tokenizer.ggml.unknown_token_id",
                              "tokenizer.ggml.padding_token_id",
                              "tokenizer.ggml.add_bos_token",
                              "tokenizer.ggml.add_eos_token",
                              "tokenizer.ggml.add_space_prefix",
                              "tokenizer.ggml.remove_extra_whitespaces"};

std::string place_of(const gguf::File& file, const std::string& key) {
  return cat(file.path().string(), ": key ", key);
}

Json scalar_of(const gguf::File& file, const std::string& key) {
  const auto found = file.values().find(key);
  return found == file.values().end() ? Json() : gguf::to_json(found->second);
}

std::optional<bool> flag_of(const gguf::File& file, const std::string& key) {
  const Json value = scalar_of(file, key);
  if (value.is_null()) return std::nullopt;
  if (!value.is_boolean()) throw DataError(cat(place_of(file, key), " = ", brief(value), ": expected a bool"));
  return value.get<bool>();
}

/// 2^32 - 1, which is -1 in other programs, stands for no token.
std::optional<std::int32_t> id_of(const gguf::File& file, const std::string& key, std::size_t tokens) {
  const Json value = scalar_of(file, key);
  if (value.is_null() || value == 0xFFFFFFFFU) return std::nullopt;
  if (!value.is_number_integer() || value < 0 || value >= tokens)
    throw DataError(cat(place_of(file, key), " = ", brief(value), ": the tokenizer has ids 0 to ", tokens - 1));
  return value.get<std::int32_t>();
}

void refuse_unknown_keys(const gguf::File& file) {
  const auto is_in = [](const auto& list, const std::string& key) {
    return std::any_of(list.begin(), list.end(), [&](const char* name) { return key == name; });
  };
  for (const auto& [key, value] : file.values()) {
    if (key.starts_with("tokenizer.ggml.") && !is_in(kRead, key) && !is_in(kWithoutEffect, key)) {
      throw DataError(cat(file.path().string(), ": key ", brief_text(key), " = ", brief(gguf::to_json(value)),
                          ": not supported: it may change the ids of a text, so it is not ignored"));
    }
  }
}

std::vector<GgufTokenType> types_of(const gguf::File& file, std::size_t tokens) {
  if (!file.has(kTypes)) return std::vector(tokens, GgufTokenType::kNormal);
  const std::vector<std::int32_t> numbers = file.integers(kTypes);
  if (numbers.size() != tokens)
    throw DataError(cat(place_of(file, kTypes), ": ", numbers.size(), " entries for ", tokens, " tokens"));
  std::vector<GgufTokenType> types;
  for (const std::int32_t number : numbers) {
    if (number < 1 || number > 6)
      throw DataError(cat(place_of(file, kTypes), "[", types.size(), "] = ", number, ": known: 1 to 6"));
    types.push_back(static_cast<GgufTokenType>(number));
  }
  return types;
}

/// Tokens that are not used are placeholders, and may be alike.
void check_tokens(const gguf::File& file, const GgufVocabulary& vocabulary) {
  std::unordered_map<std::string_view, std::size_t> places;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string_view token = vocabulary.tokens[id];
    const std::string where = cat(kTokens, "[", id, "] = '");
    if (valid_utf8_prefix(token) != token.size())
      throw DataError(cat(place_of(file, where), for_message(token), "': is no UTF-8"));
    if (vocabulary.types[id] == GgufTokenType::kUnused) continue;
    const auto [place, is_new] = places.emplace(token, id);
    if (!is_new)
      throw DataError(cat(place_of(file, where), for_message(token), "': stands at ", place->second, ", too"));
  }
}

}  // namespace

std::string gguf_string_or(const gguf::File& file, const std::string& key, const std::string& otherwise) {
  const Json value = scalar_of(file, key);
  if (value.is_null()) return otherwise;
  if (!value.is_string()) throw DataError(cat(place_of(file, key), " = ", brief(value), ": expected a string"));
  const auto text = value.get<std::string>();
  if (valid_utf8_prefix(text) != text.size()) throw DataError(cat(place_of(file, key), ": is no UTF-8"));
  return text;
}

GgufVocabulary read_gguf_vocabulary(const gguf::File& file) {
  refuse_unknown_keys(file);
  GgufVocabulary vocabulary;
  vocabulary.tokens = file.strings(kTokens);
  const std::size_t count = vocabulary.tokens.size();
  if (count == 0 || !std::in_range<std::int32_t>(count))
    throw DataError(cat(place_of(file, kTokens), ": ", count, " tokens; 1 to 2^31 - 1"));
  vocabulary.types = types_of(file, count);
  check_tokens(file, vocabulary);
  vocabulary.bos = id_of(file, "tokenizer.ggml.bos_token_id", count);
  vocabulary.eos = id_of(file, "tokenizer.ggml.eos_token_id", count);
  vocabulary.unknown = id_of(file, "tokenizer.ggml.unknown_token_id", count);
  vocabulary.padding = id_of(file, "tokenizer.ggml.padding_token_id", count);
  vocabulary.add_bos = flag_of(file, "tokenizer.ggml.add_bos_token");
  vocabulary.add_eos = flag_of(file, "tokenizer.ggml.add_eos_token");
  vocabulary.add_space_prefix = flag_of(file, "tokenizer.ggml.add_space_prefix");
  vocabulary.remove_extra_spaces = flag_of(file, "tokenizer.ggml.remove_extra_whitespaces").value_or(false);
  vocabulary.chat_template = gguf_string_or(file, "tokenizer.chat_template", "");
  return vocabulary;
}

}  // namespace mla
