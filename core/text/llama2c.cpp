#include <cmath>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/tokenizer_readers.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr std::int32_t kUnknown = 0, kBos = 1, kEos = 2;

/// Numbers and bytes from the front of a file, each with an error when the file ends early.
class BinaryReader {
 public:
  BinaryReader(std::string_view bytes, std::string name) : rest_(bytes), name_(std::move(name)) {}

  bool at_end() const { return rest_.empty(); }

  std::string_view take(std::size_t size, const std::string& what) {
    if (size > rest_.size()) {
      throw DataError(cat(name_, ": truncated in ", what, ": expected ", size, " bytes, found ", rest_.size()));
    }
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  template <class T>
  T number(const std::string& what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

 private:
  std::string_view rest_;
  std::string name_;
};

BpeRules make_rules(const ScoredTokens& tokens) {
  BpeRules rules;
  for (std::size_t id = 0; id < tokens.spellings.size(); ++id) {
    if (!tokens.spellings[id].empty()) rules.vocabulary.emplace(tokens.spellings[id], static_cast<std::int32_t>(id));
  }
  rules.merges = merges_by_score(rules.vocabulary, tokens.scores);
  rules.byte_fallback = true;
  rules.unknown = kUnknown;
  return rules;
}

}  // namespace

/// The longest token's length, then for each token its score, its length and its bytes.
ScoredTokens read_llama2c_tokens(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  BinaryReader reader(bytes, path.string());
  const auto longest = reader.number<std::int32_t>("the header");
  ScoredTokens tokens;
  while (!reader.at_end()) {
    const std::string what = cat("token ", tokens.scores.size());
    tokens.scores.push_back(reader.number<float>(what));
    if (std::isnan(tokens.scores.back()))
      throw DataError(cat(path.string(), ": the score of ", what, " is not a number"));
    const auto size = reader.number<std::int32_t>(what);
    if (size < 0 || size > longest) {
      throw DataError(cat(path.string(), ": ", what, " has ", size, " bytes; the header says at most ", longest));
    }
    if (std::cmp_greater(size, kLongestMergedToken)) {
      throw DataError(cat(path.string(), ": ", what, " has ", size, " bytes; supported are ", kLongestMergedToken));
    }
    tokens.spellings.emplace_back(reader.take(static_cast<std::size_t>(size), what));
    if (valid_utf8_prefix(tokens.spellings.back()) != tokens.spellings.back().size()) {
      throw DataError(cat(path.string(), ": ", what, " is not UTF-8; bytes must be spelt <0xNN>"));
    }
  }
  if (tokens.scores.size() <= static_cast<std::size_t>(kEos)) {
    throw DataError(cat(path.string(), ": ", tokens.scores.size(), " tokens; expected <unk>, BOS, EOS and others"));
  }
  return tokens;
}

std::unique_ptr<Tokenizer> read_llama2c(const std::filesystem::path& path) {
  ScoredTokens tokens = read_llama2c_tokens(path);
  BpeTokenizerParts parts;
  parts.normalizer = make_prepend_normalizer(" ");
  parts.model = std::make_unique<BpeModel>(make_rules(tokens));
  parts.spellings = std::move(tokens.spellings);
  for (const auto& [id, content] : {std::pair{kBos, "<s>"}, std::pair{kEos, "</s>"}}) {
    AddedToken token;
    token.id = id;
    token.content = content;
    token.special = token.on_request = true;
    parts.spellings[static_cast<std::size_t>(id)] = content;  // The file has line breaks around them.
    parts.added.push_back(token);
  }
  std::vector<std::unique_ptr<TokenDecoder>> decoders;
  decoders.push_back(make_byte_fallback_decoder());
  decoders.push_back(make_fuse_decoder());
  decoders.push_back(make_strip_decoder(" ", 1, 0));
  parts.decoder = make_decoder_sequence(std::move(decoders));
  parts.before = {kBos};
  parts.bos = kBos;
  parts.eos = kEos;
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace mla
