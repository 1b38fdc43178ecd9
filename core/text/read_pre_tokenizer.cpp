#include <array>
#include <utility>

#include "core/text/char_class.h"
#include "core/text/component_json.h"
#include "core/text/pre_tokenizer.h"

namespace mla {
namespace {

constexpr const char* kPreTokenizers =
    "Sequence, ByteLevel, Split, Digits, Metaspace, Whitespace, WhitespaceSplit, Punctuation";

SplitBehavior read_behavior(const std::string& name, const std::string& where) {
  constexpr std::array<std::pair<const char*, SplitBehavior>, 5> kNames{{
      {"Isolated", SplitBehavior::kIsolated},
      {"Removed", SplitBehavior::kRemoved},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  }};
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  throw DataError(
      cat(where, ".behavior: '", for_message(name),
          "' is not supported; supported: Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous"));
}

std::unique_ptr<PreTokenizer> read_split(const LargeJson& json, const std::string& where) {
  const auto pattern = member<LargeJson>(json, "pattern", where);
  const SplitBehavior behavior = read_behavior(member<std::string>(json, "behavior", where), where);
  const bool invert = member_or(json, "invert", false, where);
  // These match every character, so that taking the matches as they are and taking away the gaps is the same.
  const bool keeps_matches = (behavior == SplitBehavior::kIsolated) || (behavior == SplitBehavior::kRemoved && invert);
  const auto regex =
      pattern.is_object() ? member_or<std::string>(pattern, "Regex", "", where + ".pattern") : std::string();
  if (keeps_matches && regex == kGpt2Regex) return make_gpt2_splitter();
  if (keeps_matches && regex == kLlama3Regex) return make_llama3_splitter(3);
  if (keeps_matches && regex == kQwen2Regex) return make_llama3_splitter(1);
  return make_pattern_splitter(read_pattern(pattern, where + ".pattern"), behavior, invert);
}

std::unique_ptr<PreTokenizer> read_metaspace(const LargeJson& json, const std::string& where) {
  return make_metaspace(read_replacement(json, where), read_prepend_scheme(json, where),
                        member_or(json, "split", true, where));
}

std::unique_ptr<PreTokenizer> read_byte_level(const LargeJson& json, const std::string& where) {
  auto splitter = member_or(json, "use_regex", true, where) ? make_gpt2_splitter() : nullptr;
  return member_or(json, "add_prefix_space", true, where) ? make_prefix_space(std::move(splitter))
                                                          : std::move(splitter);
}

std::unique_ptr<PreTokenizer> make_space_splitter() {
  const auto is_space = [](char32_t code) { return CharClasses::instance()[code] == CharClass::kSpace; };
  return make_pattern_splitter(make_character_pattern(is_space), SplitBehavior::kRemoved, false);
}

PreTokenization read_sequence(const LargeJson& json, const std::string& where) {
  PreTokenization whole;
  std::vector<std::unique_ptr<PreTokenizer>> splitters;
  for (PreTokenization& part : read_components(json, "pretokenizers", where, read_pre_tokenizer)) {
    if (whole.byte_level) throw DataError(cat(where, ": ByteLevel is supported only as the last pre-tokenizer"));
    whole.byte_level = part.byte_level;
    if (part.splitter) splitters.push_back(std::move(part.splitter));
  }
  if (!splitters.empty()) whole.splitter = make_pre_tokenizer_sequence(std::move(splitters));
  return whole;
}

}  // namespace

std::string read_replacement(const LargeJson& json, const std::string& where) {
  auto replacement = member_or<std::string>(json, "replacement", "▁", where);
  if (replacement.empty() || utf8_size(replacement[0]) != replacement.size()) {
    throw DataError(cat(where, ".replacement: '", for_message(replacement), "' is not one character"));
  }
  return replacement;
}

PrependScheme read_prepend_scheme(const LargeJson& json, const std::string& where) {
  const bool prefix_space = member_or(json, "add_prefix_space", true, where);
  const auto scheme = member_or<std::string>(json, "prepend_scheme", prefix_space ? "always" : "never", where);
  if (scheme == "always") return PrependScheme::kAlways;
  if (scheme == "first") return PrependScheme::kFirst;
  if (scheme == "never") return PrependScheme::kNever;
  throw DataError(
      cat(where, ".prepend_scheme: '", for_message(scheme), "' is not supported; supported: always, first, never"));
}

PreTokenization read_pre_tokenizer(const LargeJson& json, const std::string& where) {
  if (json.is_null()) return {};
  const std::string type = component_type(json, where);
  if (type == "Sequence") return read_sequence(json, where);
  if (type == "ByteLevel") return {read_byte_level(json, where), true};
  if (type == "Split") return {read_split(json, where)};
  if (type == "Metaspace") return {read_metaspace(json, where)};
  if (type == "Digits") {
    const bool single = member_or(json, "individual_digits", false, where);
    return {make_pattern_splitter(make_character_pattern(is_numeric),
                                  single ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false)};
  }
  if (type == "Whitespace") {
    return {make_word_splitter()};
  }
  if (type == "WhitespaceSplit") return {make_space_splitter()};
  if (type == "Punctuation") {
    const auto behavior = member_or<std::string>(json, "behavior", "Isolated", where);
    return {make_pattern_splitter(make_character_pattern(is_punctuation), read_behavior(behavior, where), false)};
  }
  unsupported_component(where, type, kPreTokenizers);
}

}  // namespace mla
