#include "core/text/hf_model.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "core/text/byte_level.h"
#include "core/text/component_json.h"

namespace mla {
namespace {

// Tables by id are as long as the largest id: a vocabulary may have gaps, but not be made of them.
constexpr std::size_t kLargestIdOfFew = 1 << 20;
constexpr std::size_t kMostGaps = 8;

std::vector<std::pair<std::string, std::string>> read_pairs(const LargeJson& json, const std::string& where) {
  const auto list = json.find("merges");
  if (list == json.end() || !list->is_array()) throw DataError(cat(where, ".merges: expected a list of merges"));
  std::vector<std::pair<std::string, std::string>> pairs;
  pairs.reserve(list->size());
  for (const LargeJson& item : *list) {
    const auto here = [&] { return cat(where, ".merges[", pairs.size(), "]"); };
    if (item.is_string()) {
      pairs.push_back(split_merge(item.get_ref<const std::string&>(), here()));
    } else if (item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_string()) {
      pairs.emplace_back(item[0].get<std::string>(), item[1].get<std::string>());
    } else {
      throw DataError(cat(here(), ": expected \"a b\" or [\"a\", \"b\"]"));
    }
  }
  return pairs;
}

void refuse_unsupported(const LargeJson& json, const std::string& where) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!member_or<std::string>(json, key, "", where).empty()) {
      throw DataError(
          cat(where, ".", key, " = '", for_message(member<std::string>(json, key, where)), "': not supported"));
    }
  }
  if (const double dropout = member_or(json, "dropout", 0.0, where); dropout != 0) {
    throw DataError(cat(where, ".dropout = ", dropout, ": not supported; ids would be random"));
  }
}

}  // namespace

Vocabulary read_vocabulary(const LargeJson& json, const std::string& where) {
  if (!json.is_object() || json.empty()) throw DataError(cat(where, ": expected an object of token ids"));
  const std::size_t largest = std::max(kLargestIdOfFew, kMostGaps * json.size());
  Vocabulary vocabulary;
  vocabulary.reserve(json.size());
  std::unordered_map<std::int32_t, const std::string*> seen;
  for (const auto& [token, id] : json.items()) {
    if (!holds<std::int32_t>(id) || id.get<std::int32_t>() < 0 || id.get<std::uint64_t>() > largest) {
      throw DataError(
          cat(where, ": token '", for_message(token), "' has the id ", brief(id), "; expected 0 to ", largest));
    }
    const auto added = vocabulary.emplace(token, id.get<std::int32_t>()).first;
    const auto [other, is_new] = seen.emplace(added->second, &added->first);
    if (!is_new) {
      throw DataError(cat(where, ": the tokens '", for_message(*other->second), "' and '", for_message(token),
                          "' have the same id ", added->second));
    }
  }
  return vocabulary;
}

std::pair<std::string, std::string> split_merge(const std::string& line, const std::string& where) {
  const std::size_t space = line.find(' ');
  if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
    throw DataError(cat(where, ": '", for_message(line), "' is not two tokens with a space between them"));
  }
  return {line.substr(0, space), line.substr(space + 1)};
}

std::vector<Merge> resolve_merges(const std::vector<std::pair<std::string, std::string>>& pairs,
                                  const Vocabulary& vocabulary, const std::string& where) {
  std::vector<Merge> merges;
  merges.reserve(pairs.size());
  for (const auto& [left, right] : pairs) {
    const auto id_of = [&](const std::string& token) {
      const auto found = vocabulary.find(token);
      if (found == vocabulary.end()) {
        throw DataError(cat(where, "[", merges.size(), "]: '", for_message(left), " ", for_message(right), "': '",
                            for_message(token), "' is not in the vocabulary"));
      }
      return found->second;
    };
    const auto rank = static_cast<std::uint32_t>(merges.size());
    merges.push_back({id_of(left), id_of(right), id_of(left + right), rank});
  }
  return merges;
}

Vocabulary vocabulary_in_bytes(const Vocabulary& vocabulary) {
  Vocabulary in_bytes;
  in_bytes.reserve(vocabulary.size());
  for (const auto& [spelling, id] : vocabulary) {
    if (auto bytes = bytes_of_spelling(spelling)) in_bytes.emplace(std::move(*bytes), id);
  }
  return in_bytes;
}

std::vector<std::string> spellings_by_id(const Vocabulary& vocabulary) {
  std::vector<std::string> spellings;
  for (const auto& [spelling, id] : vocabulary) {
    const auto at = static_cast<std::size_t>(id);
    if (at >= spellings.size()) spellings.resize(at + 1);
    spellings[at] = spelling;
  }
  return spellings;
}

namespace {

HfModel read_bpe(const LargeJson& json, bool byte_level, const std::string& where) {
  refuse_unsupported(json, where);
  const auto vocabulary = json.find("vocab");
  if (vocabulary == json.end()) throw DataError(cat(where, ".vocab: missing"));
  HfModel model;
  model.spelt = read_vocabulary(*vocabulary, where + ".vocab");
  BpeRules& rules = model.bpe.emplace();
  rules.merges = resolve_merges(read_pairs(json, where), model.spelt, where + ".merges");
  rules.vocabulary = byte_level ? vocabulary_in_bytes(model.spelt) : model.spelt;
  rules.byte_symbols = byte_level;
  rules.ignore_merges = member_or(json, "ignore_merges", false, where);
  rules.byte_fallback = member_or(json, "byte_fallback", false, where);
  rules.fuse_unknown = member_or(json, "fuse_unk", false, where);
  if (byte_level && rules.byte_fallback) throw DataError(cat(where, ".byte_fallback: not supported with ByteLevel"));
  if (const auto unknown = member_or<std::string>(json, "unk_token", "", where); !unknown.empty()) {
    const auto found = model.spelt.find(unknown);
    if (found == model.spelt.end()) {
      throw DataError(cat(where, ".unk_token: '", for_message(unknown), "' is not in the vocabulary"));
    }
    rules.unknown = found->second;
  }
  return model;
}

HfModel read_unigram(const LargeJson& json, const std::string& where) {
  HfModel model;
  UnigramRules& rules = model.unigram.emplace();
  for (const LargeJson& item : member<LargeJson::array_t>(json, "vocab", where)) {
    const std::size_t id = rules.pieces.size();
    if (!item.is_array() || item.size() != 2 || !item[0].is_string() || !item[1].is_number()) {
      throw DataError(cat(where, ".vocab[", id, "]: expected a piece and its score, found ", brief(item)));
    }
    rules.pieces.emplace_back(item[0].get<std::string>(), item[1].get<double>());
    model.spelt.insert_or_assign(rules.pieces.back().first, static_cast<std::int32_t>(id));
  }
  if (rules.pieces.empty()) throw DataError(cat(where, ".vocab: expected pieces and their scores"));
  const auto unknown = json.find("unk_id");
  if (unknown != json.end() && !unknown->is_null()) {
    rules.unknown = member<std::int32_t>(json, "unk_id", where);
    if (*rules.unknown < 0 || std::cmp_greater_equal(*rules.unknown, rules.pieces.size())) {
      throw DataError(
          cat(where, ".unk_id = ", *rules.unknown, ": the vocabulary has ids 0 to ", rules.pieces.size() - 1));
    }
  }
  rules.byte_fallback = member_or(json, "byte_fallback", false, where);
  return model;
}

}  // namespace

HfModel read_hf_model(const LargeJson& json, bool byte_level, const std::string& where) {
  if (!json.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(json)));
  const std::string type = json.contains("type") ? component_type(json, where) : "BPE";
  if (type == "BPE") return read_bpe(json, byte_level, where);
  if (type != "Unigram") unsupported_component(where, type, "BPE, Unigram");
  if (byte_level) throw DataError(cat(where, ".type: 'Unigram' is not supported with the pre-tokenizer ByteLevel"));
  return read_unigram(json, where);
}

}  // namespace mla
