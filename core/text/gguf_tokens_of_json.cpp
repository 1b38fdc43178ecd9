#include <algorithm>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/suggest.h"
#include "core/text/component_json.h"
#include "core/text/gguf_cuts.h"
#include "core/text/gguf_token_forms.h"
#include "core/text/hf_model.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

using MergePairs = std::vector<std::pair<std::string, std::string>>;

/// "a b", or ["a", "b"].
MergePairs merges_in(const LargeJson& model, const std::string& where) {
  MergePairs pairs;
  for (const LargeJson& merge : member<LargeJson::array_t>(model, "merges", where)) {
    if (merge.is_string()) {
      pairs.push_back(split_merge(merge.get<std::string>(), where));
    } else {
      pairs.emplace_back(merge.at(0).get<std::string>(), merge.at(1).get<std::string>());  // read before: two strings
    }
  }
  return pairs;
}

std::optional<std::int32_t> id_named(const HfTokens& tokens, const char* key) {
  return tokens.config.id_of(key, tokens.added, std::nullopt);
}

/// Added tokens are looked for before a text is cut: control tokens where they are special, the user's where not.
void put_added(const std::vector<AddedToken>& added, std::optional<std::int32_t> unknown, GgufTokens& tokens) {
  for (const AddedToken& token : added) {
    const GgufTokenType type = token.id == unknown ? GgufTokenType::kUnknown
                               : token.special     ? GgufTokenType::kControl
                                                   : GgufTokenType::kUserDefined;
    put_gguf_token(tokens, token.id, token.content, type);
  }
}

LargeJson part_or_null(const LargeJson& json, const char* key) { return json.value(key, LargeJson()); }

GgufTokens byte_level_tokens(const HfTokens& read, const std::string& name) {
  const LargeJson &json = read.json, &model = json.at("model");
  const bool ignore_merges = member_or(model, "ignore_merges", false, name + ": model");
  const GgufCut* cut =
      gguf_cut_of(part_or_null(json, "pre_tokenizer"), part_or_null(json, "normalizer"), ignore_merges);
  if (!cut) {
    throw DataError(cat(name, ": its way to cut text has no name in GGUF files: pre_tokenizer ",
                        brief(part_or_null(json, "pre_tokenizer")), ", normalizer ",
                        brief(part_or_null(json, "normalizer")), ", ignore_merges ", ignore_merges,
                        "; known are those of: ", join(gguf_cut_names())));
  }
  GgufTokens tokens;
  tokens.model = "gpt2";
  tokens.pre = cut->name;
  for (const auto& [spelling, id] : read.spelt) put_gguf_token(tokens, id, spelling, GgufTokenType::kNormal);
  put_added(read.added, std::nullopt, tokens);
  for (const auto& [left, right] : merges_in(model, name + ": model")) tokens.merges.push_back(left + " " + right);
  return tokens;
}

/// The score of each token that merges make: the sooner one does, the higher. Throws DataError where no scores give
/// that order.
std::vector<float> scores_of_merges(const MergePairs& merges, const Vocabulary& spelt, std::size_t count,
                                    const std::string& name) {
  std::vector<float> scores(count, -static_cast<float>(merges.size()));
  std::vector<bool> made(count);
  std::int32_t last = -1;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto result = static_cast<std::size_t>(spelt.find(merges[rank].first + merges[rank].second)->second);
    const bool is_new = std::cmp_not_equal(result, last);
    if (is_new && made[result]) {
      throw DataError(cat(name, ": merge ", rank, " makes '", for_message(merges[rank].first + merges[rank].second),
                          "', as an earlier one does, with others between them: GGUF's form without byte-level "
                          "spelling merges by the scores of results, which cannot say that"));
    }
    if (is_new) scores[result] = -static_cast<float>(rank);
    made[result] = true;
    last = static_cast<std::int32_t>(result);
  }
  return scores;
}

/// Whether text is taken as it is but for spaces, which become "▁", and whether one is put before it.
std::optional<bool> space_prefix(const LargeJson& json) {
  const LargeJson normalizer = part_or_null(json, "normalizer"), before = part_or_null(json, "pre_tokenizer");
  const LargeJson replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  if (before.is_null() && normalizer == replace) return false;
  const LargeJson prepend = {{"type", "Prepend"}, {"prepend", "▁"}};
  if (before.is_null() && normalizer == LargeJson{{"type", "Sequence"}, {"normalizers", {prepend, replace}}})
    return true;
  const bool metaspace = before.is_object() && part_or_null(before, "type") == "Metaspace";
  if (!metaspace || !normalizer.is_null() || read_replacement(before, "pre_tokenizer") != "▁") return std::nullopt;
  // Llama's Metaspace does not cut; one that does merges nothing across spaces, which scores cannot say.
  if (member_or(before, "split", true, "pre_tokenizer")) return std::nullopt;
  return read_prepend_scheme(before, "pre_tokenizer") != PrependScheme::kNever;
}

void warn_of_other_merges(const std::vector<float>& scores, const HfTokens& read, std::size_t merges,
                          const std::string& name) {
  Vocabulary mergeable = read.spelt;
  std::erase_if(mergeable, [&](const auto& entry) {
    const auto is_it = [&](const AddedToken& token) { return token.id == entry.second; };
    return byte_of_token(entry.first) || std::any_of(read.added.begin(), read.added.end(), is_it);
  });
  const std::size_t possible = merges_by_score(mergeable, scores).size();
  if (possible <= merges) return;
  log_warning_once(cat(name, ": lists ", merges, " of ", possible,
                       " ways in which its tokens can be merged; GGUF files allow them all, so that llama.cpp may give "
                       "other ids for a few words"));
}

GgufTokens scored_tokens(const HfTokens& read, const std::string& name) {
  const LargeJson& model = read.json.at("model");
  const std::optional<bool> prefix = space_prefix(read.json);
  if (!prefix || !member_or(model, "byte_fallback", false, name + ": model")) {
    throw DataError(cat(name,
                        ": neither byte-level BPE nor BPE as Llama 2 has it (byte_fallback, spaces as ▁, no other "
                        "normalizer), the forms that GGUF files hold and llama.cpp reads"));
  }
  const MergePairs merges = merges_in(model, name + ": model");
  GgufTokens tokens;
  tokens.model = "llama";
  tokens.add_space_prefix = *prefix;
  for (const auto& [spelling, id] : read.spelt)
    put_gguf_token(tokens, id, spelling, byte_of_token(spelling) ? GgufTokenType::kByte : GgufTokenType::kNormal);
  const std::vector<float> scores = scores_of_merges(merges, read.spelt, tokens.tokens.size(), name);
  tokens.scores = scores;
  warn_of_other_merges(scores, read, merges.size(), name);
  const auto unknown = read.spelt.find(member_or<std::string>(model, "unk_token", "", name + ": model"));
  if (unknown != read.spelt.end()) tokens.unknown = unknown->second;
  put_added(read.added, tokens.unknown, tokens);
  return tokens;
}

}  // namespace

GgufTokens gguf_tokens_of_json(const std::filesystem::path& path) {
  const HfTokens read = read_hf_tokens(path);
  const std::string name = path.string();
  if (const std::string type = component_type(read.json.at("model"), name + ": model"); type != "BPE")
    throw DataError(
        cat(name, ": model.type ", type, " has no form in GGUF files that llama.cpp's models read; BPE has"));
  const bool byte_level =
      read_pre_tokenizer(part_or_null(read.json, "pre_tokenizer"), name + ": pre_tokenizer").byte_level;
  GgufTokens tokens = byte_level ? byte_level_tokens(read, name) : scored_tokens(read, name);
  tokens.padding = id_named(read, "pad_token");
  if (!tokens.unknown) tokens.unknown = id_named(read, "unk_token");
  return tokens;
}

GgufTokens gguf_tokens_of_vocab_merges(const std::filesystem::path& path) {
  const bool older = path.filename() == "encoder.json" || path.filename() == "vocab.bpe";
  const std::filesystem::path folder = path.parent_path();
  const VocabMergesTokens read = read_vocab_merges_tokens(folder / (older ? "encoder.json" : "vocab.json"),
                                                          folder / (older ? "vocab.bpe" : "merges.txt"));
  if (read.prefix_space)
    throw DataError(cat(path.string(), ": add_prefix_space = true has no form in GGUF files of byte-level BPE"));
  GgufTokens tokens;
  tokens.model = "gpt2";
  tokens.pre = read.qwen2 ? "qwen2" : "gpt-2";
  for (const auto& [spelling, id] : read.spelt) put_gguf_token(tokens, id, spelling, GgufTokenType::kNormal);
  put_added(read.added, std::nullopt, tokens);
  for (const auto& [left, right] : read.merges) tokens.merges.push_back(left + " " + right);
  return tokens;
}

}  // namespace mla
