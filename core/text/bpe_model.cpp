#include "core/text/bpe_model.h"

#include <algorithm>
#include <cstdio>
#include <unordered_set>

#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr std::size_t kJoinedBits = std::size_t{1} << 20;

/// The bit of two characters side by side.
std::size_t neighbours(char32_t left, char32_t right) {
  const std::uint64_t mixed = (static_cast<std::uint64_t>(left) << 32 | right) * 0x9E3779B97F4A7C15u;
  return static_cast<std::size_t>(mixed >> 44) & (kJoinedBits - 1);
}

int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

}  // namespace

std::string byte_token(unsigned char byte) {
  char spelling[8];
  std::snprintf(spelling, sizeof spelling, "<0x%02X>", static_cast<unsigned>(byte));
  return spelling;
}

std::optional<unsigned char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  const int high = hex_digit(token[3]), low = hex_digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

BpeModel::BpeModel(BpeRules rules) : rules_(std::move(rules)), merges_(rules_.merges) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto value = static_cast<unsigned char>(byte);
    single_bytes_[value] = find(std::string(1, static_cast<char>(value)));
    if (rules_.byte_fallback) byte_tokens_[value] = find(byte_token(value));
  }
  if (!rules_.byte_symbols) find_parts_rule();
}

std::optional<std::int32_t> BpeModel::find(std::string_view spelling) const {
  const auto found = rules_.vocabulary.find(spelling);
  return found == rules_.vocabulary.end() ? std::nullopt : std::optional(found->second);
}

void BpeModel::find_parts_rule() {
  const auto known = [](const auto& id) { return id.has_value(); };
  const bool all_bytes = rules_.byte_fallback && std::all_of(byte_tokens_.begin(), byte_tokens_.end(), known);
  // Unknown characters look at their neighbours (they fuse, or vanish and let these meet), and ignore_merges at whole
  // words: then nothing is cut.
  cuts_words_ = all_bytes && !rules_.ignore_merges;
  std::unordered_set<std::int32_t> special(rules_.unknown ? std::initializer_list<std::int32_t>{*rules_.unknown}
                                                          : std::initializer_list<std::int32_t>{});
  for (const auto& id : byte_tokens_) {
    if (id) special.insert(*id);
  }
  joined_.assign(kJoinedBits, false);
  std::unordered_set<std::int32_t> results;
  for (const Merge& merge : rules_.merges) {
    if (special.contains(merge.left) || special.contains(merge.right)) cuts_words_ = false;
    results.insert(merge.result);
  }
  for (const auto& [spelling, id] : rules_.vocabulary) {
    if (!results.contains(id)) continue;
    for (std::size_t at = utf8_size(spelling[0]); at < spelling.size(); at += utf8_size(spelling[at])) {
      const char* here = spelling.data() + at;
      joined_[neighbours(read_utf8_before(here).value, read_utf8(here).value)] = true;
    }
  }
}

void BpeModel::encode(std::string_view word, Workspace& workspace, std::vector<std::int32_t>& ids) const {
  if (rules_.ignore_merges) {
    if (const auto cached = workspace.cache.find(word)) {
      ids.insert(ids.end(), cached->begin(), cached->end());
      return;
    }
    if (const auto id = find(word)) {
      workspace.cache.insert(word, {&*id, 1});
      ids.push_back(*id);
      return;
    }
  }
  if (!cuts_words_) return encode_part(word, workspace, ids);
  std::size_t begin = 0;
  for (std::size_t at = 0; at < word.size();) {
    const CodePoint here = read_utf8(word.data() + at);
    at += here.size;
    if (at < word.size() && joined_[neighbours(here.value, read_utf8(word.data() + at).value)]) continue;
    encode_part(word.substr(begin, at - begin), workspace, ids);
    begin = at;
  }
}

void BpeModel::encode_part(std::string_view part, Workspace& workspace, std::vector<std::int32_t>& ids) const {
  if (const auto cached = workspace.cache.find(part)) {
    ids.insert(ids.end(), cached->begin(), cached->end());
    return;
  }
  workspace.symbols.clear();
  append_symbols(part, workspace.symbols);
  workspace.merger.merge(merges_, workspace.symbols);
  workspace.cache.insert(part, workspace.symbols);
  ids.insert(ids.end(), workspace.symbols.begin(), workspace.symbols.end());
}

bool BpeModel::append_bytes(std::string_view character, std::vector<std::int32_t>& symbols) const {
  const auto token_of = [this](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (!std::all_of(character.begin(), character.end(), [&](char byte) { return token_of(byte).has_value(); })) {
    return false;
  }
  for (const char byte : character) symbols.push_back(*token_of(byte));
  return true;
}

void BpeModel::append_symbols(std::string_view part, std::vector<std::int32_t>& symbols) const {
  bool unknown_waits = false;  // As in the reference, it is written only when a known character or the end comes.
  const auto write_unknown = [&] {
    if (unknown_waits) symbols.push_back(*rules_.unknown);
    unknown_waits = false;
  };
  for (std::size_t at = 0; at < part.size();) {
    const std::size_t size = rules_.byte_symbols ? 1 : utf8_size(part[at]);
    const std::string_view character = part.substr(at, size);
    at += size;
    const auto id = size == 1 ? single_bytes_[static_cast<unsigned char>(character[0])] : find(character);
    if (id) {
      write_unknown();
      symbols.push_back(*id);
    } else if (rules_.byte_fallback && append_bytes(character, symbols)) {
      continue;
    } else if (rules_.unknown) {
      if (!rules_.fuse_unknown) write_unknown();
      unknown_waits = true;
    }
  }
  write_unknown();
}

}  // namespace mla
