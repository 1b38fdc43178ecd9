// Tokenizer files small enough to be written inside a test.
#pragma once

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

}  // namespace mla::test
