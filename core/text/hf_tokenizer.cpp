#include <algorithm>

#include "core/base/error.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/component_json.h"
#include "core/text/hf_model.h"
#include "core/text/post_processor.h"
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

/// The token the config names; else the one the template puts there; else the first of the usual names that exists.
std::optional<std::int32_t> choose_token(const BpeTokenizerParts& parts, const std::optional<std::string>& named,
                                         const Ids& in_template, std::initializer_list<const char*> usual) {
  if (named) return id_of(parts, *named);
  if (in_template.size() == 1) return in_template[0];
  for (const char* name : usual) {
    const auto id = id_of(parts, name);
    if (id) return id;
  }
  return std::nullopt;
}

/// Makes `ids` hold `token` or not, as the config wants; `at` is where it is added.
void follow_flag(std::optional<bool> flag, std::optional<std::int32_t> token, Ids& ids, bool at_front) {
  if (!flag || !token) return;
  const bool present = std::find(ids.begin(), ids.end(), *token) != ids.end();
  if (*flag && !present) ids.insert(at_front ? ids.begin() : ids.end(), *token);
  if (!*flag) std::erase(ids, *token);
}

void set_special_ids(const TokenizerConfig& config, BpeTokenizerParts& parts) {
  parts.bos = choose_token(parts, config.bos, parts.before, {"<s>", "<|begin_of_text|>", "<|endoftext|>"});
  parts.eos = choose_token(parts, config.eos, parts.after, {"</s>", "<|end_of_text|>", "<|endoftext|>"});
  follow_flag(config.add_bos, parts.bos, parts.before, true);
  follow_flag(config.add_eos, parts.eos, parts.after, false);
}

void add_spellings(const std::vector<AddedToken>& added, std::vector<std::string>& spellings) {
  for (const AddedToken& token : added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= spellings.size()) spellings.resize(id + 1);
    spellings[id] = token.content;
  }
}

}  // namespace

std::unique_ptr<Tokenizer> read_hf_tokenizer(const std::filesystem::path& path) {
  const LargeJson json = read_large_json(path);
  const std::string where = path.string() + ": ";
  if (!json.is_object() || !json.contains("model")) throw DataError(where + "expected a tokenizer.json with a model");
  const auto part = [&json](const char* key) { return json.contains(key) ? json.at(key) : LargeJson(); };

  BpeTokenizerParts parts;
  PreTokenization pre_tokenization = read_pre_tokenizer(part("pre_tokenizer"), where + "pre_tokenizer");
  HfModel model = read_hf_model(json.at("model"), pre_tokenization.byte_level, where + "model");
  parts.added = read_added_tokens(json, model.spelt, where);
  parts.normalizer = read_normalizer(part("normalizer"), where + "normalizer");
  parts.pre_tokenizer = std::move(pre_tokenization.splitter);
  parts.model = std::make_unique<BpeModel>(std::move(model.rules));
  parts.decoder = read_decoder(part("decoder"), where + "decoder");
  parts.spellings = spellings_by_id(model.spelt);
  add_spellings(parts.added, parts.spellings);
  const Surroundings around = read_post_processor(part("post_processor"), where + "post_processor");
  parts.before = around.before;
  parts.after = around.after;
  set_special_ids(read_tokenizer_config(path.parent_path()), parts);
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace mla
