#include <algorithm>

#include "core/base/error.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/component_json.h"
#include "core/text/hf_model.h"
#include "core/text/post_processor.h"
#include "core/text/tokenizer_config.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

using Ids = std::vector<std::int32_t>;

/// The added tokens. As in the reference, one that the vocabulary spells too has the vocabulary's id and the others are
/// numbered on from the end of the vocabulary; the `id` in the file says the same in a well-formed file.
std::vector<AddedToken> read_added_tokens(const LargeJson& json, const Vocabulary& vocabulary,
                                          const std::string& where) {
  auto next = static_cast<std::int32_t>(vocabulary.size());
  std::vector<AddedToken> tokens;
  for (const LargeJson& item : member_or<LargeJson::array_t>(json, "added_tokens", {}, where)) {
    const std::string here = cat(where, "added_tokens[", tokens.size(), "]");
    AddedToken token;
    token.content = member<std::string>(item, "content", here);
    if (token.content.empty()) continue;  // As the reference, which counts it not even as a number.
    const auto known = vocabulary.find(token.content);
    token.id = known == vocabulary.end() ? next : known->second;
    next = std::max(next, token.id + 1);
    token.single_word = member_or(item, "single_word", false, here);
    token.left_strip = member_or(item, "lstrip", false, here);
    token.right_strip = member_or(item, "rstrip", false, here);
    token.special = member_or(item, "special", false, here);
    token.normalized = member_or(item, "normalized", !token.special, here);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

std::optional<std::int32_t> id_of(const BpeTokenizerParts& parts, const std::string& spelling) {
  for (const AddedToken& token : parts.added) {
    if (token.content == spelling) return token.id;
  }
  const auto found = std::find(parts.spellings.begin(), parts.spellings.end(), spelling);
  if (found == parts.spellings.end()) return std::nullopt;
  return static_cast<std::int32_t>(found - parts.spellings.begin());
}

bool is_llama(const TokenizerConfig& config) {
  return config.is_class("LlamaTokenizer") || config.is_class("CodeLlamaTokenizer");
}

/// The token the config names; else the one the template puts there; else the first of the usual names that exists.
std::optional<std::int32_t> choose_token(const BpeTokenizerParts& parts, const TokenizerConfig& config,
                                         const std::string& key, const Ids& in_template,
                                         std::initializer_list<const char*> usual) {
  constexpr std::int32_t kNotThere = -1;
  const auto named = config.id_of(key, parts.added, kNotThere);
  if (named != kNotThere) return named;
  if (in_template.size() == 1) return in_template[0];
  if (!config.tokenizer_class.empty() && !is_llama(config)) return std::nullopt;
  for (const char* name : usual) {
    const auto id = id_of(parts, name);
    if (id) return id;
  }
  return std::nullopt;
}

/// Makes `ids` be `token` or nothing, when the config says which.
void follow_flag(std::optional<bool> flag, std::optional<std::int32_t> token, Ids& ids) {
  if (!flag) return;
  ids = *flag && token ? Ids{*token} : Ids{};
}

/// Other classes leave the flags unread where there is a tokenizer.json: its post_processor decides.
void set_special_ids(const TokenizerConfig& config, BpeTokenizerParts& parts) {
  parts.bos = choose_token(parts, config, "bos_token", parts.before, {"<s>", "<|begin_of_text|>", "<|endoftext|>"});
  parts.eos = choose_token(parts, config, "eos_token", parts.after, {"</s>", "<|end_of_text|>", "<|endoftext|>"});
  if (!config.tokenizer_class.empty() && !is_llama(config)) return;
  follow_flag(config.add_bos, parts.bos, parts.before);
  follow_flag(config.add_eos, parts.eos, parts.after);
}

/// Sets the flag of ByteLevel, which is the whole pre-tokenizer or (when `deep`) the last part of it.
void set_prefix_space(LargeJson& pre_tokenizer, bool prefix, bool deep) {
  if (!pre_tokenizer.is_object() || !pre_tokenizer.contains("type")) return;
  if (pre_tokenizer["type"] == "ByteLevel") pre_tokenizer["add_prefix_space"] = prefix;
  const auto parts = pre_tokenizer.find("pretokenizers");
  if (deep && parts != pre_tokenizer.end() && parts->is_array() && !parts->empty()) {
    set_prefix_space(parts->back(), prefix, deep);
  }
}

/// Whether spaces become "▁" by a Metaspace or by a normalizer, and nothing else is done to a text.
bool is_like_sentencepiece(const LargeJson& json) {
  const auto type_of = [](const LargeJson& part) {
    const bool told = part.is_object() && part.contains("type") && part["type"].is_string();
    return told ? part["type"].get<std::string>() : std::string();
  };
  const LargeJson none, &normalizer = json.contains("normalizer") ? json["normalizer"] : none,
                        &pre_tokenizer = json.contains("pre_tokenizer") ? json["pre_tokenizer"] : none;
  if (type_of(pre_tokenizer) == "Metaspace") return normalizer.is_null();
  if (!pre_tokenizer.is_null() || type_of(normalizer) != "Sequence" || !normalizer.contains("normalizers"))
    return false;
  return std::all_of(normalizer["normalizers"].begin(), normalizer["normalizers"].end(),
                     [&](const LargeJson& part) { return type_of(part) == "Prepend" || type_of(part) == "Replace"; });
}

/// Llama's class builds what stands before its merges anew when the config has its say on the prefix.
void set_llama_prefix(const TokenizerConfig& config, LargeJson& json, const std::string& where) {
  if (!is_like_sentencepiece(json)) {
    throw DataError(cat(where, "add_prefix_space of tokenizer_config.json is supported for ", config.tokenizer_class,
                        " only where spaces become ▁ and nothing else is done to a text"));
  }
  const bool prefix = *config.add_prefix_space;
  const char* scheme = !prefix ? "never" : config.legacy.value_or(false) ? "always" : "first";
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", false}};
}

/// What add_prefix_space of the config changes, by class, as transformers does. Returns a text to be hashed.
std::string follow_prefix_space(const TokenizerConfig& config, LargeJson& json, const std::string& where) {
  const bool gpt2 = config.is_class("GPT2Tokenizer") || config.is_class("CodeGenTokenizer");
  const bool qwen2 = config.is_class("Qwen2Tokenizer");
  const bool byte_level =
      json.contains("pre_tokenizer") && json["pre_tokenizer"].dump().find("\"ByteLevel\"") != std::string::npos;
  const LargeJson before = json.value("pre_tokenizer", LargeJson());
  if (byte_level && (gpt2 || qwen2)) {
    set_prefix_space(json["pre_tokenizer"], config.add_prefix_space.value_or(false), qwen2);
  }
  if (!byte_level && is_llama(config) && config.add_prefix_space) set_llama_prefix(config, json, where);
  const LargeJson after = json.value("pre_tokenizer", LargeJson());
  return before == after ? std::string() : after.dump();
}

LargeJson read_tokenizer_json(const std::filesystem::path& path) {
  LargeJson json = read_large_json(path);
  if (!json.is_object() || !json.contains("model"))
    throw DataError(path.string() + ": expected a tokenizer.json with a model");
  return json;
}

LargeJson part_of(const LargeJson& json, const char* key) { return json.contains(key) ? json.at(key) : LargeJson(); }

/// The added tokens of tokenizer.json and of the config, and what the config has changed of them.
struct AllAdded {
  std::vector<AddedToken> tokens;
  std::string changes;
};
AllAdded all_added_tokens(const LargeJson& json, bool byte_level, const Vocabulary& spelt, TokenizerConfig& config,
                          const std::string& where) {
  if (!(byte_level && is_llama(config))) add_class_defaults(config);
  AllAdded all{read_added_tokens(json, spelt, where), {}};
  all.changes = add_configured_tokens(config, spelt, all.tokens);
  return all;
}

void refuse_foreign_ids(const Ids& ids, std::size_t size, const std::string& where) {
  for (const std::int32_t id : ids) {
    if (id < 0 || static_cast<std::size_t>(id) >= size) {
      throw DataError(cat(where, ": id ", id, ": the tokenizer has ids 0 to ", size - 1));
    }
  }
}

}  // namespace

std::unique_ptr<Tokenizer> read_hf_tokenizer(const std::filesystem::path& path) {
  return make_hf_tokenizer(read_tokenizer_json(path), read_tokenizer_config(path.parent_path()), path.string());
}

HfTokens read_hf_tokens(const std::filesystem::path& path) {
  const std::string where = path.string() + ": ";
  HfTokens tokens{read_tokenizer_json(path), read_tokenizer_config(path.parent_path()), {}, {}};
  follow_prefix_space(tokens.config, tokens.json, where);
  const bool byte_level = read_pre_tokenizer(part_of(tokens.json, "pre_tokenizer"), where + "pre_tokenizer").byte_level;
  tokens.spelt = read_hf_model(tokens.json.at("model"), byte_level, where + "model").spelt;
  tokens.added = all_added_tokens(tokens.json, byte_level, tokens.spelt, tokens.config, where).tokens;
  return tokens;
}

std::unique_ptr<Tokenizer> make_hf_tokenizer(LargeJson json, TokenizerConfig config, const std::string& name) {
  const std::string where = name + ": ";
  BpeTokenizerParts parts;
  parts.beside = follow_prefix_space(config, json, where);
  const auto part = [&json](const char* key) { return part_of(json, key); };

  PreTokenization pre_tokenization = read_pre_tokenizer(part("pre_tokenizer"), where + "pre_tokenizer");
  HfModel model = read_hf_model(json.at("model"), pre_tokenization.byte_level, where + "model");
  AllAdded added = all_added_tokens(json, pre_tokenization.byte_level, model.spelt, config, where);
  parts.added = std::move(added.tokens);
  parts.beside += added.changes;
  parts.normalizer = read_normalizer(part("normalizer"), where + "normalizer");
  parts.pre_tokenizer = std::move(pre_tokenization.splitter);
  if (model.bpe) parts.model = std::make_unique<BpeModel>(std::move(*model.bpe));
  if (model.unigram) parts.unigram = std::make_unique<UnigramModel>(std::move(*model.unigram));
  parts.decoder = read_decoder(part("decoder"), where + "decoder");
  parts.spellings = spellings_by_id(model.spelt);
  add_spellings(parts.added, parts.spellings);
  const Surroundings around = read_post_processor(part("post_processor"), where + "post_processor");
  refuse_foreign_ids(around.before, parts.spellings.size(), where + "post_processor");
  refuse_foreign_ids(around.after, parts.spellings.size(), where + "post_processor");
  parts.before = around.before;
  parts.after = around.after;
  set_special_ids(config, parts);
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace mla
