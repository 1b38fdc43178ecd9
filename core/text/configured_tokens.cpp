#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "core/base/error.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/tokenizer_config.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

// In the order in which transformers adds them.
constexpr std::array<const char*, 7> kStandardTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                        "pad_token", "cls_token", "mask_token"};
AddedToken bare_special_token(std::string content) {
  AddedToken token;
  token.content = std::move(content);
  token.special = true;
  return token;
}

bool same_flags(const AddedToken& a, const AddedToken& b) {
  const auto flags = [](const AddedToken& token) {
    return std::array{token.single_word, token.left_strip, token.right_strip,
                      token.normalized,  token.special,    token.on_request};
  };
  return flags(a) == flags(b);
}

/// Numbers tokens as the tokenizers library does.
class TokenNumbering {
 public:
  TokenNumbering(const TokenizerConfig& config, const Vocabulary& vocabulary, std::vector<AddedToken>& added)
      : config_(config), vocabulary_(vocabulary), added_(added), next_(static_cast<std::int32_t>(vocabulary.size())) {
    for (std::size_t i = 0; i < added_.size(); ++i) {
      next_ = std::max(next_, added_[i].id + 1);
      places_[added_[i].content] = i;
    }
  }

  /// A token that is looked for on request only becomes one that always is.
  bool knows(const std::string& content) const {
    const auto place = places_.find(content);
    return place != places_.end() && !added_[place->second].on_request;
  }

  void add(AddedToken token, std::optional<std::int64_t> wanted) {
    if (token.content.empty()) return;
    const auto place = places_.find(token.content);
    const auto spelt = vocabulary_.find(token.content);
    const bool is_known = place != places_.end() || spelt != vocabulary_.end();
    token.id = place != places_.end() ? added_[place->second].id : is_known ? spelt->second : next_;
    if (wanted && *wanted != token.id) refuse(token, *wanted, is_known);
    next_ = std::max(next_, token.id + 1);
    if (place != places_.end() && same_flags(added_[place->second], token)) return;
    changes_ += cat(token.id, ' ', token.content, ' ', token.single_word, token.left_strip, token.right_strip,
                    token.normalized, token.special, '\n');
    if (place != places_.end()) {
      added_[place->second] = std::move(token);
    } else {
      places_[token.content] = added_.size();
      added_.push_back(std::move(token));
    }
  }

  std::string changes() && { return std::move(changes_); }

 private:
  [[noreturn]] void refuse(const AddedToken& token, std::int64_t wanted, bool is_known) const {
    throw DataError(
        cat(config_.file.parent_path().string(), ": the token '", for_message(token.content), "' has the id ", wanted,
            " in added_tokens_decoder or added_tokens.json, but comes to ", token.id,
            is_known ? " in the vocabulary" : ", the next one after the vocabulary and the tokens before it"));
  }

  const TokenizerConfig& config_;
  const Vocabulary& vocabulary_;
  std::vector<AddedToken>& added_;
  std::unordered_map<std::string, std::size_t> places_;  // In added_, by content.
  std::int32_t next_;
  std::string changes_;
};

}  // namespace

bool is_standard_token(const std::string& key) {
  return std::find(kStandardTokens.begin(), kStandardTokens.end(), key) != kStandardTokens.end();
}

std::optional<std::int32_t> TokenizerConfig::id_of(const std::string& key, const std::vector<AddedToken>& tokens,
                                                   std::optional<std::int32_t> otherwise) const {
  for (const auto& [name, token] : named) {
    if (name != key) continue;
    if (!token) return std::nullopt;
    for (const AddedToken& known : tokens) {
      if (known.content == token->content) return known.id;
    }
  }
  return otherwise;
}

void TokenizerConfig::name_unless_told(const std::string& key, const std::string& content) {
  if (std::any_of(named.begin(), named.end(), [&](const auto& entry) { return entry.first == key; })) return;
  AddedToken token = bare_special_token(content);
  for (const NumberedToken& numbered : added) {
    if (numbered.token.content == content) token = numbered.token;
  }
  named.emplace_back(key, std::move(token));
}

void add_class_defaults(TokenizerConfig& config) {
  struct Default {
    const char *tokenizer_class, *key, *content;
  };
  constexpr Default kDefaults[] = {
      {"LlamaTokenizer", "bos_token", "<s>"},
      {"LlamaTokenizer", "eos_token", "</s>"},
      {"LlamaTokenizer", "unk_token", "<unk>"},
      {"CodeLlamaTokenizer", "bos_token", "<s>"},
      {"CodeLlamaTokenizer", "eos_token", "</s>"},
      {"CodeLlamaTokenizer", "unk_token", "<unk>"},
      {"GPT2Tokenizer", "bos_token", "<|endoftext|>"},
      {"GPT2Tokenizer", "eos_token", "<|endoftext|>"},
      {"GPT2Tokenizer", "unk_token", "<|endoftext|>"},
      {"CodeGenTokenizer", "bos_token", "<|endoftext|>"},
      {"CodeGenTokenizer", "eos_token", "<|endoftext|>"},
      {"CodeGenTokenizer", "unk_token", "<|endoftext|>"},
      {"Qwen2Tokenizer", "eos_token", "<|endoftext|>"},
      {"Qwen2Tokenizer", "unk_token", "<|endoftext|>"},
      {"Qwen2Tokenizer", "pad_token", "<|endoftext|>"},
  };
  for (const Default& entry : kDefaults) {
    if (config.is_class(entry.tokenizer_class)) config.name_unless_told(entry.key, entry.content);
  }
}

std::string add_configured_tokens(const TokenizerConfig& config, const Vocabulary& vocabulary,
                                  std::vector<AddedToken>& added) {
  TokenNumbering numbering(config, vocabulary, added);
  std::unordered_set<std::string> names;
  for (const auto& [name, token] : config.named) {
    if (token) names.insert(token->content);
  }
  for (NumberedToken numbered : config.added) {
    numbered.token.special |= names.contains(numbered.token.content);
    numbering.add(numbered.token, numbered.id);
  }
  const auto add_name = [&](const std::optional<AddedToken>& token) {
    if (!token || numbering.knows(token->content)) return;
    AddedToken special = *token;
    special.special = true;
    numbering.add(special, std::nullopt);
  };
  for (const char* key : kStandardTokens) {
    for (const auto& [name, token] : config.named) {
      if (name == key) add_name(token);
    }
  }
  for (const auto& [name, token] : config.named) {
    if (!is_standard_token(name)) add_name(token);
  }
  for (const AddedToken& token : config.additional) {
    if (!numbering.knows(token.content)) numbering.add(token, std::nullopt);
  }
  if (config.is_class("Qwen2Tokenizer")) {  // Which in the end adds all of these once more, without their flags.
    for (const auto& [name, token] : config.named) {
      if (token) numbering.add(bare_special_token(token->content), std::nullopt);
    }
    for (const AddedToken& token : config.additional) numbering.add(bare_special_token(token.content), std::nullopt);
  }
  return std::move(numbering).changes();
}

void follow_special_tokens(const TokenizerConfig& config, const Vocabulary& vocabulary, bool adds_bos,
                           BpeTokenizerParts& parts) {
  parts.beside = add_configured_tokens(config, vocabulary, parts.added);
  add_spellings(parts.added, parts.spellings);
  parts.bos = config.id_of("bos_token", parts.added, parts.bos);
  parts.eos = config.id_of("eos_token", parts.added, parts.eos);
  if (config.add_bos.value_or(adds_bos) && parts.bos) parts.before = {*parts.bos};
  if (config.add_eos.value_or(false) && parts.eos) parts.after = {*parts.eos};
}

}  // namespace mla
