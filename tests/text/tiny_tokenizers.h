// Tokenizer files small enough to be written inside a test.
#pragma once

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "core/text/bpe_model.h"
#include "core/text/byte_level.h"
#include "core/text/utf8.h"

namespace mla::test {

using TinyJson = nlohmann::json;

/// The 256 bytes in the byte-level alphabet (ids 0 to 255), then "he", "ll", "hell", "hello", "Ġhello" and the merges
/// that make them.
inline TinyJson tiny_byte_level() {
  TinyJson vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[to_utf8(character_of_byte(static_cast<unsigned char>(byte)))] = byte;
  }
  int next = 256;
  for (const char* token : {"he", "ll", "hell", "hello", "Ġhello"}) vocabulary[token] = next++;
  TinyJson merges = {"h e", "l l", "he ll", "hell o", "Ġ hello"};
  return {{"version", "1.0"},
          {"added_tokens", TinyJson::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}};
}

/// As Llama 2's: <unk>, <s>, </s>, the 256 bytes (ids 3 to 258), then "▁", "a", "b", "▁a", "ab", "▁ab".
inline TinyJson tiny_sentencepiece_like() {
  TinyJson vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte_token(static_cast<unsigned char>(byte))] = 3 + byte;
  int next = 259;
  for (const char* token : {"▁", "a", "b", "▁a", "ab", "▁ab"}) vocabulary[token] = next++;
  TinyJson added = TinyJson::array();
  int id = 0;
  for (const char* token : {"<unk>", "<s>", "</s>"}) {
    added.push_back({{"id", id++}, {"content", token}, {"normalized", false}, {"special", true}});
  }
  TinyJson prepend = {{"type", "Prepend"}, {"prepend", "▁"}};
  TinyJson replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  TinyJson back = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
  TinyJson strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  TinyJson around = {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                     {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}};
  return {
      {"added_tokens", added},
      {"normalizer", {{"type", "Sequence"}, {"normalizers", {prepend, replace}}}},
      {"pre_tokenizer", nullptr},
      {"post_processor",
       {{"type", "TemplateProcessing"}, {"single", around}, {"special_tokens", {{"<s>", {{"ids", {1}}}}}}}},
      {"decoder", {{"type", "Sequence"}, {"decoders", {back, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"vocab", vocabulary},
        {"merges", {"a b", "▁ a", "▁ ab"}}}}};
}

/// A field of a protocol buffer message that holds bytes (fewer than 2^14), or a number.
inline std::string proto_bytes(int field, const std::string& bytes) {
  std::string out(1, static_cast<char>(field << 3 | 2));
  if (bytes.size() >= 128) out += static_cast<char>(bytes.size() & 0x7F) | static_cast<char>(0x80);
  out += static_cast<char>(bytes.size() >= 128 ? bytes.size() >> 7 : bytes.size());
  return out + bytes;
}
inline std::string proto_number(int field, int value) {
  const std::string key =
      field < 16 ? std::string(1, static_cast<char>(field << 3))
                 : std::string{static_cast<char>((field << 3 & 0x7F) | 0x80), static_cast<char>(field >> 4)};
  return key + (value < 128 ? std::string(1, static_cast<char>(value))
                            : std::string{static_cast<char>((value & 0x7F) | 0x80), static_cast<char>(value >> 7)});
}

/// A sentencepiece model of type BPE: <unk>, <s>, </s>, the 256 bytes (ids 3 to 258), "▁a", "ab", "▁ab", "▁", "a", "b".
inline std::string tiny_sentencepiece_model() {
  std::string model;
  int pieces = 0;
  const auto piece = [&](const std::string& spelling, float score, int type) {
    std::string bytes(sizeof score, '\0');
    std::memcpy(bytes.data(), &score, sizeof score);
    model += proto_bytes(1, proto_bytes(1, spelling) + std::string(1, 2 << 3 | 5) + bytes + proto_number(3, type));
    ++pieces;
  };
  piece("<unk>", 0, 2);
  piece("<s>", 0, 3);
  piece("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) piece(byte_token(static_cast<unsigned char>(byte)), 0, 6);
  float score = 0;
  for (const char* spelling : {"▁a", "ab", "▁ab", "▁", "a", "b"}) piece(spelling, score--, 1);
  model += proto_bytes(2, proto_number(3, 2) + proto_number(4, pieces) + proto_number(35, 1));
  model += proto_bytes(3, proto_number(3, 1) + proto_number(4, 0) + proto_number(5, 1));
  return model;
}

}  // namespace mla::test
