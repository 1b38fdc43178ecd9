#include "core/text/gguf_cuts.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/text/pre_tokenizer.h"

namespace mla {
namespace {

LargeJson split_by(const char* regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

LargeJson byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

LargeJson sequence(std::vector<LargeJson> parts) { return {{"type", "Sequence"}, {"pretokenizers", std::move(parts)}}; }

LargeJson cut_as_smollm() { return sequence({{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)}); }
LargeJson cut_as_llama3() { return sequence({split_by(kLlama3Regex), byte_level(false)}); }
LargeJson cut_as_qwen2() { return sequence({split_by(kQwen2Regex), byte_level(false)}); }
/// What llama.cpp does with a file that does not say how its text is cut.
LargeJson cut_by_default() {
  return sequence({split_by(R"([\p{P}\$\+<=>\^~\|]+)"), split_by(kGpt2Regex), split_by(R"(\p{N}+)"),
                   split_by("[0-9][0-9][0-9]"), byte_level(false)});
}

constexpr std::array<GgufCut, 7> kCuts = {{{kDefaultGgufCut, cut_by_default},
                                           {"gpt-2", cut_as_gpt2_does},
                                           {"smollm", cut_as_smollm},
                                           {"llama-bpe", cut_as_llama3, true, true},
                                           {"llama3", cut_as_llama3, true, true},
                                           {"llama-v3", cut_as_llama3, true, true},
                                           {"qwen2", cut_as_qwen2, false, false, true}}};

/// `key` of an object, or what it stands for where it is absent.
LargeJson told(const LargeJson& part, const char* key, LargeJson otherwise) {
  const auto found = part.find(key);
  return found == part.end() || found->is_null() ? otherwise : *found;
}

/// Appends the parts of a pre-tokenizer, one after another, without what decides nothing.
void add_plain_parts(const LargeJson& part, LargeJson::array_t& parts) {
  const LargeJson type = part.is_object() ? told(part, "type", nullptr) : LargeJson();
  if (type == "Sequence" && part.contains("pretokenizers") && part["pretokenizers"].is_array()) {
    for (const LargeJson& inner : part["pretokenizers"]) add_plain_parts(inner, parts);
  } else if (type == "ByteLevel") {
    parts.push_back({type, told(part, "add_prefix_space", true), told(part, "use_regex", true)});
  } else if (type == "Split") {
    const LargeJson behavior = told(part, "behavior", nullptr), invert = told(part, "invert", false);
    const LargeJson pattern = told(part, "pattern", nullptr);
    // These patterns match every character: taking the matches, and taking away the gaps, is the same.
    const bool matches = behavior == "Removed" && invert == true;
    parts.push_back({type, pattern, matches ? LargeJson("Isolated") : behavior, matches ? LargeJson(false) : invert});
  } else if (type == "Digits") {
    parts.push_back({type, told(part, "individual_digits", false)});
  } else {
    parts.push_back(part);
  }
}

LargeJson::array_t plain_parts(const LargeJson& pre_tokenizer) {
  LargeJson::array_t parts;
  add_plain_parts(pre_tokenizer, parts);
  return parts;
}

}  // namespace

LargeJson cut_as_gpt2_does() { return byte_level(true); }

const GgufCut* find_gguf_cut(std::string_view name) {
  const auto found = std::find_if(kCuts.begin(), kCuts.end(), [&](const GgufCut& cut) { return name == cut.name; });
  return found == kCuts.end() ? nullptr : &*found;
}

std::vector<std::string> gguf_cut_names() {
  std::vector<std::string> names;
  for (const GgufCut& cut : kCuts) names.emplace_back(cut.name);
  return names;
}

const GgufCut* gguf_cut_of(const LargeJson& pre_tokenizer, const LargeJson& normalizer, bool ignore_merges) {
  const bool composes = normalizer.is_object() && told(normalizer, "type", nullptr) == "NFC";
  if (!composes && !normalizer.is_null()) return nullptr;
  const LargeJson::array_t wanted = plain_parts(pre_tokenizer);
  const auto found = std::find_if(kCuts.begin(), kCuts.end(), [&](const GgufCut& cut) {
    return cut.ignore_merges == ignore_merges && cut.composes == composes && plain_parts(cut.pre_tokenizer()) == wanted;
  });
  return found == kCuts.end() ? nullptr : &*found;
}

}  // namespace mla
