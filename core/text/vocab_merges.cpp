#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/hf_model.h"
#include "core/text/tokenizer_config.h"
#include "core/text/tokenizer_readers.h"
#include "core/text/utf8.h"

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

/// These files are cut as by GPT-2 or as by Qwen 2; other classes that have such files cut or surround otherwise.
bool is_qwen2(const TokenizerConfig& config, const Vocabulary& vocabulary) {
  if (config.tokenizer_class.empty()) return vocabulary.size() == kQwen2Entries;
  if (config.is_class("Qwen2Tokenizer")) return true;
  if (config.is_class("GPT2Tokenizer") || config.is_class("CodeGenTokenizer")) return false;
  throw DataError(cat(config.file.string(), ": tokenizer_config.tokenizer_class: '",
                      for_message(config.tokenizer_class),
                      "' is not supported with a vocabulary and merges; supported: GPT2Tokenizer, CodeGenTokenizer, "
                      "Qwen2Tokenizer"));
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

std::unique_ptr<PreTokenizer> make_cutter(bool qwen2, bool prefix_space) {
  if (!prefix_space) return qwen2 ? make_llama3_splitter(1) : make_gpt2_splitter();
  if (!qwen2) return make_prefix_space(make_gpt2_splitter());
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  parts.push_back(make_llama3_splitter(1));
  parts.push_back(make_prefix_space(nullptr));
  return make_pre_tokenizer_sequence(std::move(parts));
}

/// What both files and the config say, and the parts of a tokenizer that hold its tokens.
struct VocabMerges {
  Vocabulary spelt;
  std::vector<std::pair<std::string, std::string>> merges;
  bool qwen2 = false, prefix_space = false;
  BpeTokenizerParts parts;
};

VocabMerges read_both(const std::filesystem::path& vocab, const std::filesystem::path& merges) {
  VocabMerges read;
  read.spelt = read_vocabulary(read_large_json(vocab), vocab.string());
  read.merges = read_merges(merges);
  TokenizerConfig config = read_tokenizer_config(vocab.parent_path());
  read.qwen2 = is_qwen2(config, read.spelt);
  read.prefix_space = config.add_prefix_space.value_or(false);
  read.parts.spellings = spellings_by_id(read.spelt);
  if (config.tokenizer_class.empty()) add_end_of_text(read.qwen2, read.parts);
  add_class_defaults(config);
  follow_special_tokens(config, read.spelt, false, read.parts);
  return read;
}

}  // namespace

VocabMergesTokens read_vocab_merges_tokens(const std::filesystem::path& vocab, const std::filesystem::path& merges) {
  VocabMerges read = read_both(vocab, merges);
  return {std::move(read.spelt), std::move(read.merges), std::move(read.parts.added), read.qwen2, read.prefix_space};
}

std::unique_ptr<Tokenizer> read_vocab_merges(const std::filesystem::path& vocab, const std::filesystem::path& merges) {
  VocabMerges read = read_both(vocab, merges);
  BpeRules rules;
  rules.merges = resolve_merges(read.merges, read.spelt, merges.string() + ": merges");
  rules.vocabulary = vocabulary_in_bytes(read.spelt);
  rules.byte_symbols = true;
  BpeTokenizerParts parts = std::move(read.parts);
  if (read.qwen2) parts.normalizer = make_unicode_normalizer("NFC");
  parts.pre_tokenizer = make_cutter(read.qwen2, read.prefix_space);
  parts.model = std::make_unique<BpeModel>(std::move(rules));
  parts.decoder = make_byte_level_decoder();
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace mla
