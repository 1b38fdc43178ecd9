// Tokenizers in other forms: vocab.json with merges.txt, sentencepiece, tiktoken, llama2.c.
#include <cstring>

#include "core/text/tokenizer.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/use_tokenizer.h"

namespace mla::fuzz {
namespace {

std::vector<std::string> vocab_merges_seeds() {
  return {join_parts({R"({"h":0,"e":1,"l":2,"o":3,"he":4,"ll":5,"hell":6,"hello":7,"Ġ":8,"<|endoftext|>":9})",
                      "#version: 0.2\nh e\nl l\nhe ll\nhell o"}),
          join_parts({R"({"a":0,"b":1,"ab":2})", "a b\n"})};
}

void run_vocab_merges(std::string_view input) {
  const auto parts = parts_of(input, 2);
  input_file("pair/merges.txt", parts[1]);
  use_tokenizer(*load_tokenizer(input_file("pair/vocab.json", parts[0])), input);
}

const Registration kVocabMerges({"vocab_merges", run_vocab_merges, vocab_merges_seeds, {"\n%%%\n", "#version", "Ġ"}});

// A protocol buffer by hand.
std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}
std::string number_field(std::uint64_t field, std::uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes_field(std::uint64_t field, const std::string& bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string piece(const std::string& text, float score, std::uint64_t type) {
  std::string bits(sizeof score, '\0');
  std::memcpy(bits.data(), &score, sizeof score);
  return bytes_field(1, bytes_field(1, text) + varint(2 << 3 | 5) + bits + number_field(3, type));
}

/// A model whose pieces are letters and a few merges, with 256 bytes behind them where `bytes`. `kind`: 1 unigram, 2
/// BPE.
std::string sentencepiece_seed(std::uint64_t kind, bool bytes) {
  constexpr std::uint64_t kNormal = 1, kUnknown = 2, kControl = 3, kUser = 4, kByte = 6;
  std::string model = piece("<unk>", 0, kUnknown) + piece("<s>", 0, kControl) + piece("</s>", 0, kControl);
  if (bytes) {
    for (int value = 0; value < 256; ++value) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", value);
      model += piece(name, 0, kByte);
    }
  }
  float score = 0;
  for (const char* text : {"ab", "▁a", "▁ab", "▁", "a", "b", "c", "e", "h", "l", "o"})
    model += piece(text, --score, kNormal);
  model += piece("<user>", 0, kUser);
  model += bytes_field(2, number_field(3, kind) + number_field(35, bytes) + number_field(40, 0) + number_field(41, 1));
  return model +
         bytes_field(3, bytes_field(1, "identity") + number_field(3, 1) + number_field(4, 1) + number_field(5, 1));
}

std::vector<std::string> sentencepiece_seeds() {
  return {sentencepiece_seed(1, false), sentencepiece_seed(2, false), sentencepiece_seed(2, true)};
}

void run_sentencepiece(std::string_view input) {
  use_tokenizer(*load_tokenizer(input_file("sentencepiece/tokenizer.model", input)), input);
}

const Registration kSentencepiece(
    {"sentencepiece", run_sentencepiece, sentencepiece_seeds, {"\x0a\x0e\x0a", "<0x41>", "▁"}});

std::vector<std::string> tiktoken_seeds() { return {"IQ== 0\nIg== 1\nIWI= 2\n", "IQ== 0\n\nIg== 1\r\n"}; }

/// Reads lines; none of these files is whole, which the reader says at their end.
void run_tiktoken(std::string_view input) {
  use_tokenizer(*load_tokenizer(input_file("tiktoken/a.tiktoken", input)), input);
}

const Registration kTiktoken({"tiktoken", run_tiktoken, tiktoken_seeds, {"== ", "IQ==", " 2147483647\n"}, 150, false});

/// GPT-2's count of ranks: the bytes, then numbers. Lines of the input, "LINE TEXT", take the place of the file's own.
std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k)
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k)
      text.push_back(i + k <= bytes.size() ? kDigits[group >> (18 - 6 * k) & 63] : '=');
  }
  return text;
}

std::vector<std::string> whole_tiktoken_lines() {
  constexpr std::size_t kGpt2Ranks = 50256;
  std::vector<std::string> lines;
  for (std::size_t rank = 0; rank < kGpt2Ranks; ++rank) {
    const std::string bytes = rank < 256 ? std::string(1, static_cast<char>(rank)) : "a" + std::to_string(rank);
    lines.push_back(base64(bytes) + " " + std::to_string(rank) + "\n");
  }
  return lines;
}

std::vector<std::string> whole_tiktoken_seeds() { return {"300 YWI= 300", "50255 YWJj 50255", "0 IQ== 33\n33 AA== 0"}; }

void run_whole_tiktoken(std::string_view input) {
  static const std::vector<std::string> lines = whole_tiktoken_lines();
  std::vector<std::string> changed = lines;
  std::string_view rest = input;
  while (!rest.empty()) {
    const std::string line(rest.substr(0, rest.find('\n')));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::size_t space = line.find(' ');
    if (space == std::string::npos) continue;
    changed[std::strtoull(line.c_str(), nullptr, 10) % changed.size()] = line.substr(space + 1) + "\n";
  }
  std::string file;
  for (const std::string& line : changed) file += line;
  use_tokenizer(*load_tokenizer(input_file("tiktoken/whole.tiktoken", file)), input);
}

const Registration kWholeTiktoken(
    {"tiktoken_whole", run_whole_tiktoken, whole_tiktoken_seeds, {"2147483647", "2000000000", "50256", " -1"}, 2});

std::string int32_bytes(std::int32_t value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }

std::vector<std::string> llama2c_tokenizer_seeds() {
  std::string file = int32_bytes(7);
  float score = 0;
  const auto add = [&](const std::string& token) {
    file += std::string(reinterpret_cast<const char*>(&score), sizeof score);
    file += int32_bytes(static_cast<std::int32_t>(token.size())) + token;
    score -= 1;
  };
  for (const char* token : {"<unk>", "\n<s>\n", "\n</s>\n", "<0x00>", "<0x61>", " ", "a", "b", "ab", " a", " ab"})
    add(token);
  return {file};
}

void run_llama2c_tokenizer(std::string_view input) {
  use_tokenizer(*load_tokenizer(input_file("llama2c/tok.bin", input)), input);
}

const Registration kLlama2cTokenizer(
    {"llama2c_tokenizer", run_llama2c_tokenizer, llama2c_tokenizer_seeds, {"<0x0A>", " a"}});

}  // namespace
}  // namespace mla::fuzz
