// tokenizer.json, and the files beside a tokenizer that name special tokens.
#include "core/text/tokenizer.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/use_tokenizer.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla::fuzz {
namespace {

using test::TinyJson;

/// Only the letters that the seeds' merges need, so that mutations hit what matters.
TinyJson small_tokenizer() {
  TinyJson json = test::tiny_byte_level();
  json["model"]["vocab"] = {{"h", 0},  {"e", 1},    {"l", 2},     {"o", 3},      {"Ġ", 4},      {"he", 5},
                            {"ll", 6}, {"hell", 7}, {"hello", 8}, {"Ġhello", 9}, {"<unk>", 10}, {"<s>", 11}};
  json["added_tokens"] = {{{"id", 11}, {"content", "<s>"}, {"special", true}, {"lstrip", true}, {"rstrip", true}},
                          {{"id", 12}, {"content", "ab"}, {"normalized", true}, {"single_word", true}}};
  json["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {11}}, {"tokens", {"<s>"}}}}}}};
  return json;
}

TinyJson with(const char* part, TinyJson value) {
  TinyJson json = small_tokenizer();
  json[part] = std::move(value);
  return json;
}

TinyJson unigram() {
  TinyJson json = small_tokenizer();
  json["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}, {"split", true}};
  json["decoder"] = json["pre_tokenizer"];
  json["model"] = {{"type", "Unigram"},
                   {"unk_id", 0},
                   {"byte_fallback", false},
                   {"vocab", {{"<unk>", 0.0}, {"▁", -2.5}, {"a", -3.0}, {"b", -3.5}, {"ab", -4.0}, {"▁ab", -4.5}}}};
  return json;
}

std::vector<std::string> tokenizer_json_seeds() {
  std::vector<TinyJson> all = {small_tokenizer(), test::tiny_byte_level(), test::tiny_sentencepiece_like(), unigram()};
  for (const char* regex :
       {"'s|\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}]+|\\s+(?!\\S)|\\s+", "[a-z&&[^e]]+", "(?i:x)|^a|\\z"}) {
    TinyJson split = {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
    TinyJson bytes = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", false}};
    all.push_back(with("pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}));
  }
  all.push_back(with("pre_tokenizer", {{"type", "Digits"}, {"individual_digits", true}}));
  all.push_back(with("normalizer", {{"type", "Sequence"},
                                    {"normalizers",
                                     {{{"type", "NFKC"}},
                                      {{"type", "Lowercase"}},
                                      {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}},
                                      {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "b"}}}}}));
  std::vector<std::string> texts;
  for (const TinyJson& json : all) texts.push_back(json.dump());
  return texts;
}

void run_tokenizer_json(std::string_view input) {
  const auto path = input_file("json/tokenizer.json", input);
  use_tokenizer(*load_tokenizer(path), input);
}

const Registration kTokenizerJson({"tokenizer_json",
                                   run_tokenizer_json,
                                   tokenizer_json_seeds,
                                   {"added_tokens",
                                    "normalizer",
                                    "pre_tokenizer",
                                    "decoder",
                                    "post_processor",
                                    "model",
                                    "ByteLevel",
                                    "Metaspace",
                                    "Split",
                                    "Sequence",
                                    "Digits",
                                    "Punctuation",
                                    "BPE",
                                    "Unigram",
                                    "NFC",
                                    "NFKC",
                                    "Strip",
                                    "Replace",
                                    "Prepend",
                                    "ByteFallback",
                                    "Fuse",
                                    "Precompiled",
                                    "precompiled_charsmap",
                                    "byte_fallback",
                                    "fuse_unk",
                                    "unk_token",
                                    "ignore_merges",
                                    "(?:",
                                    "[^",
                                    "&&",
                                    "\\p{Han}",
                                    "[[:alpha:]]",
                                    "+*",
                                    "{2,3}",
                                    "(?<=a)",
                                    "(?>a+)b",
                                    "\\G"}});

/// Three files beside a tokenizer, whose form the first byte chooses; a tokenizer.json is the input's too.
std::vector<std::string> companion_seeds() {
  const TinyJson added = {{"<s>", 11}, {"<extra>", 13}, {"<more>", 14}};
  const TinyJson config = {
      {"tokenizer_class", "LlamaTokenizer"},
      {"bos_token", {{"content", "<s>"}, {"lstrip", false}, {"special", true}}},
      {"eos_token", "<extra>"},
      {"unk_token", nullptr},
      {"add_bos_token", true},
      {"add_eos_token", false},
      {"add_prefix_space", true},
      {"additional_special_tokens", {"<more>", {{"content", "<extra>"}}}},
      {"added_tokens_decoder", {{"13", {{"content", "<extra>"}, {"special", true}, {"rstrip", true}}}}}};
  const TinyJson special = {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}};
  std::vector<std::string> seeds;
  for (const char* form : {"j", "v"}) {
    seeds.push_back(form + join_parts({config.dump(), added.dump(), special.dump(), small_tokenizer().dump()}));
  }
  seeds.push_back("j" + join_parts({"{}", "{}", "{}", small_tokenizer().dump()}));
  TinyJson like_llama = unigram();
  like_llama["added_tokens"] = TinyJson::array();
  like_llama["post_processor"] = nullptr;
  seeds.push_back("j" + join_parts({config.dump(), "{}", "{}", like_llama.dump()}));
  return seeds;
}

void run_companions(std::string_view input) {
  const char form = input.empty() ? 'j' : input[0];
  const std::string folder = form == 'v' ? "beside_v/" : "beside_j/";
  const auto parts = parts_of(input.substr(input.empty() ? 0 : 1), 4);
  static const std::string vocabulary = small_tokenizer()["model"]["vocab"].dump();
  input_file(folder + "tokenizer_config.json", parts[0]);
  input_file(folder + "added_tokens.json", parts[1]);
  const auto last = input_file(folder + "special_tokens_map.json", parts[2]);
  if (form == 'v') {
    input_file(folder + "merges.txt", "#version: 0.2\nh e\nl l\nhe ll\nhell o\n");
    input_file(folder + "vocab.json", vocabulary);
  } else {
    input_file(folder + "tokenizer.json", parts[3]);
  }
  use_tokenizer(*load_tokenizer(last.parent_path()), input);
}

const Registration kCompanions({"tokenizer_companions",
                                run_companions,
                                companion_seeds,
                                {"bos_token", "eos_token", "unk_token", "pad_token", "content", "special", "normalized",
                                 "Qwen2Tokenizer", "GPT2Tokenizer", "LlamaTokenizerFast", "added_tokens_decoder",
                                 "legacy"}});

}  // namespace
}  // namespace mla::fuzz
