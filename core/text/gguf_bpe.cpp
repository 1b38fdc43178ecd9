#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/suggest.h"
#include "core/text/gguf_cuts.h"
#include "core/text/gguf_forms.h"

namespace mla {
namespace {

const GgufCut& cut_of(const gguf::File& file) {
  constexpr const char* kPre = "tokenizer.ggml.pre";
  if (!file.has(kPre)) {
    log_warning_once(cat(file.path().string(), ": does not say how its tokenizer cuts text (", kPre,
                         "): the default is used, as llama.cpp does, which may not be the model's"));
  }
  const std::string name = gguf_string_or(file, kPre, kDefaultGgufCut);
  if (const GgufCut* cut = find_gguf_cut(name)) return *cut;
  throw DataError(cat(file.path().string(), ": key ", kPre, ": ", unknown_name(brief_text(name), gguf_cut_names())));
}

/// Tokens that are found in a text before it is cut.
LargeJson added_tokens(const GgufVocabulary& vocabulary) {
  LargeJson::array_t added;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const bool special = vocabulary.types[id] == GgufTokenType::kControl;
    if ((!special && vocabulary.types[id] != GgufTokenType::kUserDefined) || vocabulary.tokens[id].empty()) continue;
    added.push_back({{"id", id},
                     {"content", vocabulary.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", special}});
  }
  return added;
}

LargeJson model_of(const gguf::File& file, const GgufVocabulary& vocabulary, const GgufCut& cut) {
  LargeJson::object_t ids;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.types[id] != GgufTokenType::kUnused) ids.emplace(std::string(vocabulary.tokens[id]), id);
  }
  LargeJson::array_t merges;
  for (const std::string_view merge : file.strings("tokenizer.ggml.merges")) merges.emplace_back(merge);
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", cut.ignore_merges},
          {"vocab", std::move(ids)},
          {"merges", std::move(merges)}};
}

/// What is put around a text.
LargeJson surroundings(const GgufVocabulary& vocabulary, const GgufCut& cut) {
  LargeJson::array_t single;
  LargeJson specials = LargeJson::object();
  const auto add = [&](std::optional<std::int32_t> id) {
    const std::string spelling(vocabulary.tokens[static_cast<std::size_t>(*id)]);
    single.push_back({{"SpecialToken", {{"id", spelling}, {"type_id", 0}}}});
    specials[spelling] = {{"id", spelling}, {"ids", {*id}}, {"tokens", {spelling}}};
  };
  if (vocabulary.bos && vocabulary.add_bos.value_or(cut.adds_bos)) add(vocabulary.bos);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (vocabulary.eos && vocabulary.add_eos.value_or(false)) add(vocabulary.eos);
  if (specials.empty()) return nullptr;
  LargeJson::array_t pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
}

}  // namespace

LargeJson gguf_bpe_json(const gguf::File& file, const GgufVocabulary& vocabulary) {
  const GgufCut& cut = cut_of(file);
  if (vocabulary.add_space_prefix.value_or(false)) {
    throw DataError(
        cat(file.path().string(), ": key tokenizer.ggml.add_space_prefix = true: not supported with byte-level BPE"));
  }
  LargeJson json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = added_tokens(vocabulary);
  json["normalizer"] = cut.composes ? LargeJson{{"type", "NFC"}} : LargeJson();
  json["pre_tokenizer"] = cut.pre_tokenizer();
  json["post_processor"] = surroundings(vocabulary, cut);
  json["decoder"] = cut_as_gpt2_does();
  json["model"] = model_of(file, vocabulary, cut);
  return json;
}

}  // namespace mla
