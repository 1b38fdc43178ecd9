#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/hf_model.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

constexpr std::size_t kQwen2Entries = 151643;
const char* const kEndOfText = "<|endoftext|>";

std::vector<std::pair<std::string, std::string>> read_merges(const std::filesystem::path& path) {
  std::istringstream lines(read_file(path));
  std::vector<std::pair<std::string, std::string>> merges;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with("#version")) continue;
    merges.push_back(split_merge(line, cat(path.string(), ":", number)));
  }
  if (merges.empty()) throw DataError(cat(path.string(), ": no merges"));
  return merges;
}

bool is_qwen2(const TokenizerConfig& config, const Vocabulary& vocabulary) {
  if (!config.tokenizer_class.empty()) return config.tokenizer_class.starts_with("Qwen2");
  return vocabulary.size() == kQwen2Entries;
}

/// <|endoftext|>: GPT-2's vocabulary has it, and its text form is text; Qwen 2 adds it after its vocabulary.
void add_end_of_text(bool qwen2, BpeTokenizerParts& parts) {
  AddedToken token;
  token.content = kEndOfText;
  token.special = true;
  token.on_request = !qwen2;
  std::size_t id = 0;
  while (id < parts.spellings.size() && parts.spellings[id] != kEndOfText) ++id;
  if (id == parts.spellings.size()) {
    if (!qwen2) return;
    parts.spellings.push_back(kEndOfText);
  }
  token.id = static_cast<std::int32_t>(id);
  parts.added.push_back(token);
  parts.eos = token.id;
  if (!qwen2) parts.bos = token.id;
}

}  // namespace

std::unique_ptr<Tokenizer> read_vocab_merges(const std::filesystem::path& vocab, const std::filesystem::path& merges) {
  const Vocabulary spelt = read_vocabulary(read_large_json(vocab), vocab.string());
  BpeRules rules;
  rules.merges = resolve_merges(read_merges(merges), spelt, merges.string() + ": merges");
  rules.vocabulary = vocabulary_in_bytes(spelt);
  rules.byte_symbols = true;
  const bool qwen2 = is_qwen2(read_tokenizer_config(vocab.parent_path()), spelt);

  BpeTokenizerParts parts;
  if (qwen2) parts.normalizer = make_unicode_normalizer("NFC");
  parts.pre_tokenizer = qwen2 ? make_llama3_splitter(1) : make_gpt2_splitter();
  parts.model = std::make_unique<BpeModel>(std::move(rules));
  parts.decoder = make_byte_level_decoder();
  parts.spellings = spellings_by_id(spelt);
  add_end_of_text(qwen2, parts);
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace mla
