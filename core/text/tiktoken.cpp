#include <algorithm>
#include <charconv>
#include <sstream>
#include <unordered_set>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/base64.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/byte_level.h"
#include "core/text/tokenizer_config.h"
#include "core/text/tokenizer_readers.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr std::size_t kLlama3Ranks = 128000;
constexpr std::size_t kGpt2Ranks = 50256;
constexpr std::size_t kLlama3Special = 256;
constexpr std::size_t kMostRanks = 1 << 20;  // Several times the largest vocabulary: tables by id are that long.

/// The rank behind a line's space, from 0 to kMostRanks - 1; -1 for anything else.
std::int32_t read_rank(std::string_view text) {
  if (text.ends_with('\r')) text.remove_suffix(1);
  std::int32_t rank = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rank);
  return error == std::errc() && end == text.data() + text.size() && std::cmp_less(rank, kMostRanks) ? rank : -1;
}

Vocabulary read_ranks(const std::filesystem::path& path) {
  std::istringstream lines(read_file(path));
  Vocabulary ranks;
  std::unordered_set<std::int32_t> seen;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    const std::size_t space = std::min(line.find(' '), line.size());
    const auto bytes = decode_base64(std::string_view(line).substr(0, space));
    const std::int32_t rank = space < line.size() ? read_rank(std::string_view(line).substr(space + 1)) : -1;
    if (!bytes || bytes->empty() || bytes->size() > kLongestMergedToken || rank < 0) {
      throw DataError(cat(path.string(), ":", number, ": expected a base64 token and its rank, 0 to ", kMostRanks - 1));
    }
    if (!ranks.emplace(*bytes, rank).second) throw DataError(cat(path.string(), ":", number, ": a token seen before"));
    if (!seen.insert(rank).second) throw DataError(cat(path.string(), ":", number, ": rank ", rank, " seen before"));
  }
  return ranks;
}

/// The names of Llama 3's special tokens, in the order of their ids.
std::vector<std::string> llama3_special() {
  std::vector<std::string> names{"<|begin_of_text|>",
                                 "<|end_of_text|>",
                                 "<|reserved_special_token_0|>",
                                 "<|reserved_special_token_1|>",
                                 "<|finetune_right_pad_id|>",
                                 "<|step_id|>",
                                 "<|start_header_id|>",
                                 "<|end_header_id|>",
                                 "<|eom_id|>",
                                 "<|eot_id|>",
                                 "<|python_tag|>"};
  for (int reserved = 2; names.size() < kLlama3Special; ++reserved) {
    names.push_back(cat("<|reserved_special_token_", reserved, "|>"));
  }
  return names;
}

std::string spelling_of_bytes(const std::string& bytes) {
  std::string spelling;
  for (const char byte : bytes) spelling += to_utf8(character_of_byte(static_cast<unsigned char>(byte)));
  return spelling;
}

}  // namespace

std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(Vocabulary ranks, std::unique_ptr<PreTokenizer> splitter,
                                                   const std::vector<std::string>& special, const std::string& eos,
                                                   bool adds_bos, const TokenizerConfig& config) {
  BpeTokenizerParts parts;
  for (const auto& [bytes, rank] : ranks) {
    const auto id = static_cast<std::size_t>(rank);
    if (id >= parts.spellings.size()) parts.spellings.resize(id + 1);
    parts.spellings[id] = spelling_of_bytes(bytes);
  }
  for (const std::string& name : special) {
    AddedToken token;
    token.id = static_cast<std::int32_t>(parts.spellings.size());
    token.content = name;
    token.special = token.on_request = true;
    if (!parts.bos) parts.bos = token.id;
    if (name == eos) parts.eos = token.id;
    parts.added.push_back(token);
    parts.spellings.push_back(name);
  }
  follow_special_tokens(config, ranks, adds_bos, parts);
  BpeRules rules;
  rules.merges = merges_by_id(ranks);
  rules.vocabulary = std::move(ranks);
  rules.byte_symbols = rules.ignore_merges = true;
  parts.pre_tokenizer = std::move(splitter);
  parts.model = std::make_unique<BpeModel>(std::move(rules));
  parts.decoder = make_byte_level_decoder();
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

std::unique_ptr<Tokenizer> read_tiktoken(const std::filesystem::path& path) {
  Vocabulary ranks = read_ranks(path);
  const TokenizerConfig config = read_tokenizer_config(path.parent_path());
  if (ranks.size() == kLlama3Ranks) {
    return make_tiktoken_tokenizer(std::move(ranks), make_llama3_splitter(3), llama3_special(), "<|end_of_text|>", true,
                                   config);
  }
  if (ranks.size() == kGpt2Ranks) {
    return make_tiktoken_tokenizer(std::move(ranks), make_gpt2_splitter(), {"<|endoftext|>"}, "<|endoftext|>", false,
                                   config);
  }
  throw DataError(cat(path.string(), ": ", ranks.size(), " tiktoken ranks; known are Llama 3's ", kLlama3Ranks,
                      " and GPT-2's ", kGpt2Ranks));
}

}  // namespace mla
