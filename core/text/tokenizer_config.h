// tokenizer_config.json, added_tokens.json and special_tokens_map.json beside a tokenizer's own file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/text/added_tokens.h"
#include "core/text/bpe_merges.h"

namespace mla {

/// A token of added_tokens_decoder or added_tokens.json with the id it stands there for.
struct NumberedToken {
  std::int64_t id = 0;
  AddedToken token;
};

/// What these files say of tokens and of what is put around a text, as transformers 5 reads them. What has no place
/// here decides no ids in the classes that are known here: chat_template, padding_side, model_max_length and the like
/// come after or before encoding, clean_up_tokenization_spaces and errors belong to decoding, auto_map names a program.
struct TokenizerConfig {
  std::filesystem::path file;                                            // tokenizer_config.json, for errors.
  bool found = false;                                                    // One of the files exists.
  std::string tokenizer_class;                                           // Without a final "Fast".
  std::vector<std::pair<std::string, std::optional<AddedToken>>> named;  // "bos_token", …; nothing for null.
  std::vector<AddedToken> additional;                                    // additional_special_tokens
  std::vector<NumberedToken> added;                                      // In order of their ids.
  std::optional<bool> add_bos, add_eos, add_prefix_space, legacy;

  bool is_class(const char* name) const { return tokenizer_class == name; }

  /// Names a token as "bos_token", … where the config does not have the key.
  void name_unless_told(const std::string& key, const std::string& content);

  /// The id among `added` of what is named as "bos_token", …: nothing when the config has null there, `otherwise` when
  /// it does not have the key.
  std::optional<std::int32_t> id_of(const std::string& key, const std::vector<AddedToken>& added,
                                    std::optional<std::int32_t> otherwise) const;
};

/// Whether `key` is "bos_token" or another of the seven that transformers knows in every class.
bool is_standard_token(const std::string& key);

/// Reads what lies in `folder`. Throws DataError for a value of another type, and for a key that changes ids and is not
/// supported (split_special_tokens, sp_model_kwargs, fix_mistral_regex).
TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder);

/// The same of what a tokenizer_config.json says, which is part of `file`; nothing lies beside it.
TokenizerConfig read_tokenizer_config(const Json& json, const std::filesystem::path& file);

/// Names <s>, </s>, <unk>, <|endoftext|> as the class does where the config is silent: Llama's, GPT-2's, Qwen 2's.
void add_class_defaults(TokenizerConfig& config);

/// Appends the config's tokens to `added`, which holds the tokenizer's own, in the order and by the numbering of
/// transformers: a token that `vocabulary` or `added` knows keeps its id, others are numbered on from the end. The
/// flags of the config win. Returns what has changed, as a text to be hashed; empty when nothing has. Throws DataError
/// when the config has another id for a token than it comes to.
std::string add_configured_tokens(const TokenizerConfig& config, const Vocabulary& vocabulary,
                                  std::vector<AddedToken>& added);

}  // namespace mla
