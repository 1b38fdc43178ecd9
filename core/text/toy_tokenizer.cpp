#include <cctype>

#include "core/text/byte_level.h"
#include "core/text/toy_stories.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr int kBytes = 256;

std::string spelling(char byte) { return to_utf8(character_of_byte(static_cast<unsigned char>(byte))); }

/// Adds the merges that build `word` from its first byte, one byte at a time, and the tokens they make. Words that all
/// begin alike and only there share their merges as the branches of a tree do: at no time can two of them apply.
void add_word(const std::string& word, Json& vocabulary, Json& merges) {
  std::string left = spelling(word.front());
  for (std::size_t i = 1; i < word.size(); ++i) {
    const std::string right = spelling(word[i]);
    if (!vocabulary.contains(left + right)) {
      const std::size_t id = vocabulary.size();
      vocabulary[left + right] = id;
      merges.push_back(left + " " + right);
    }
    left += right;
  }
}

Json special_token(const char* content, std::size_t id) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

/// `text` with kToyBos in front.
Json post_processor(std::size_t bos) {
  const Json begin = {{"SpecialToken", {{"id", kToyBos}, {"type_id", 0}}}};
  const Json first = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  Json token = {{"id", kToyBos}};
  token["ids"] = Json::array({bos});
  token["tokens"] = Json::array({kToyBos});
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({begin, first})},
          {"pair", Json::array({begin, first, second})},
          {"special_tokens", {{kToyBos, token}}}};
}

Json byte_level() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
}

}  // namespace

Json toy_tokenizer() {
  Json vocabulary = Json::object(), merges = Json::array();
  for (int byte = 0; byte < kBytes; ++byte) vocabulary[spelling(static_cast<char>(byte))] = byte;
  const std::vector<std::string> words = toy_lexicon();
  for (const std::string& word : words) add_word(" " + word, vocabulary, merges);
  // After the others in rank, so that they never take the capital away from its space.
  for (const std::string& word : words) {
    if (std::isupper(static_cast<unsigned char>(word.front())) != 0) add_word(word, vocabulary, merges);
  }
  const std::size_t bos = vocabulary.size(), eos = bos + 1;
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", Json::array({special_token(kToyBos, bos), special_token(kToyEos, eos)})},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level()},
          {"post_processor", post_processor(bos)},
          {"decoder", byte_level()},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocabulary},
            {"merges", merges}}}};
}

Json toy_tokenizer_config() {
  return {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"bos_token", kToyBos}, {"eos_token", kToyEos}};
}

}  // namespace mla
