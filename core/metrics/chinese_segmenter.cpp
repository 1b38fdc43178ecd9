#include "core/metrics/chinese_segmenter.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <string_view>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/metrics/unicode_text.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

/// Log-probability of what the model has never seen.
constexpr double kImpossible = -3.14e100;

/// Begin, middle and end of a word, and a word of one character; in the order in which equal paths are preferred.
enum State : std::size_t { kBegin, kEnd, kMiddle, kSingle, kStates };
constexpr std::array<const char*, kStates> kStateNames = {"B", "E", "M", "S"};
/// The two states that may come before each.
constexpr std::array<std::array<State, 2>, kStates> kBefore = {
    {{kEnd, kSingle}, {kBegin, kMiddle}, {kBegin, kMiddle}, {kEnd, kSingle}}};

bool is_han(char32_t code) { return code >= 0x4E00 && code <= 0x9FD5; }
bool is_ascii_alphanumeric(char32_t code) {
  return (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
}
/// What words of the dictionary are made of.
bool is_word_character(char32_t code) {
  return is_han(code) || is_ascii_alphanumeric(code) ||
         (code < 0x80 && std::string_view("+#&._%-").find(static_cast<char>(code)) != std::string_view::npos);
}

/// A Python module that holds one literal of nested dictionaries with string keys and number values.
LargeJson read_python_dictionary(const std::filesystem::path& file) {
  std::string text = read_file(file);
  text.erase(0, std::min(text.find('{'), text.size()));
  for (char& letter : text) {
    if (letter == '\'') letter = '"';
  }
  LargeJson json = parse_large_json(text, file.string());
  if (!json.is_object()) throw DataError(cat(file.string(), ": expected one dictionary literal of jieba"));
  return json;
}

}  // namespace

struct ChineseSegmenter::Model {
  explicit Model(const std::filesystem::path& folder) : text(read_file(folder / "dict.txt")) {
    read_words((folder / "dict.txt").string());
    read_transitions(folder / "finalseg");
  }

  double frequency(const std::string& word) const {
    const auto found = frequencies.find(word);
    return found == frequencies.end() ? 0 : found->second;
  }

  void read_words(const std::string& name);
  void read_transitions(const std::filesystem::path& folder);
  std::vector<std::size_t> likeliest_ends(const std::u32string& text) const;
  std::vector<State> likeliest_states(std::u32string_view text) const;
  void cut_characters(const std::u32string& text, std::vector<std::u32string>& words) const;
  void cut_unknown(const std::u32string& text, std::vector<std::u32string>& words) const;
  void cut_block(const std::u32string& text, std::vector<std::u32string>& words) const;

  std::string text;                                          ///< of dict.txt; the keys below lie in it
  std::unordered_map<std::string_view, double> frequencies;  ///< of words, and 0 of what words begin with
  double total = 0;
  std::array<double, kStates> start{};
  std::array<std::array<double, kStates>, kStates> transition{};  ///< [from][to]
  std::array<std::unordered_map<char32_t, double>, kStates> emission;
};

void ChineseSegmenter::Model::read_words(const std::string& name) {
  frequencies.reserve(std::size_t{1} << 19);
  std::size_t number = 0;
  const std::string_view all = text;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = std::min(all.find('\n', begin), all.size());
    const std::string_view line = all.substr(begin, end - begin);
    ++number;
    const std::size_t space = line.find(' ');
    char* after = nullptr;
    const double count = space == std::string_view::npos ? 0 : std::strtod(line.data() + space, &after);
    if (space == 0 || space == std::string_view::npos || after == line.data() + space ||
        valid_utf8_prefix(line) != line.size()) {
      throw DataError(cat(name, ":", number, ": expected a word and its frequency"));
    }
    const std::string_view word = line.substr(0, space);
    for (std::size_t size = utf8_size(word[0]); size < word.size(); size += utf8_size(word[size])) {
      frequencies.try_emplace(word.substr(0, size), 0.0);
    }
    frequencies[word] = count;
    total += count;
    begin = end + 1;
  }
}

void ChineseSegmenter::Model::read_transitions(const std::filesystem::path& folder) {
  const LargeJson starts = read_python_dictionary(folder / "prob_start.py");
  const LargeJson transitions = read_python_dictionary(folder / "prob_trans.py");
  const LargeJson emissions = read_python_dictionary(folder / "prob_emit.py");
  try {
    for (std::size_t state = 0; state < kStates; ++state) {
      const char* name = kStateNames[state];
      start[state] = starts.at(name).get<double>();
      for (std::size_t to = 0; to < kStates; ++to)
        transition[state][to] = transitions.at(name).value(kStateNames[to], kImpossible);
      for (const auto& [character, value] : emissions.at(name).items())
        emission[state][read_utf8(character.data()).value] = value.get<double>();
    }
  } catch (const LargeJson::exception& error) {
    throw DataError(cat(folder.string(), ": malformed probabilities of jieba: ", error.what()));
  }
}

/// For each place of `text` the end of the word that begins there on the likeliest path to the text's end. Of equal
/// paths the one with the longer word counts.
std::vector<std::size_t> ChineseSegmenter::Model::likeliest_ends(const std::u32string& block) const {
  std::vector<std::string> characters;
  for (const char32_t code : block) characters.push_back(to_utf8(code));
  const double log_total = std::log(total);
  std::vector<double> best(block.size() + 1, 0);
  std::vector<std::size_t> ends(block.size());
  for (std::size_t i = block.size(); i-- > 0;) {
    bool any = false;
    const auto consider = [&](std::size_t end, double count) {
      const double score = std::log(count) - log_total + best[end];
      if (any && score < best[i]) return;
      best[i] = score;
      ends[i] = end;
      any = true;
    };
    std::string word;
    for (std::size_t end = i; end < block.size(); ++end) {
      word += characters[end];
      const auto found = frequencies.find(word);
      if (found == frequencies.end()) break;
      if (found->second > 0) consider(end + 1, found->second);
    }
    if (!any) consider(i + 1, 1);
  }
  return ends;
}

std::vector<State> ChineseSegmenter::Model::likeliest_states(std::u32string_view han) const {
  const auto emits = [&](std::size_t state, char32_t code) {
    const auto found = emission[state].find(code);
    return found == emission[state].end() ? kImpossible : found->second;
  };
  std::vector<std::array<double, kStates>> value(han.size());
  std::vector<std::array<State, kStates>> from(han.size());
  for (std::size_t state = 0; state < kStates; ++state) value[0][state] = start[state] + emits(state, han[0]);
  for (std::size_t t = 1; t < han.size(); ++t) {
    for (std::size_t state = 0; state < kStates; ++state) {
      const double emitted = emits(state, han[t]);
      const auto [first, second] = kBefore[state];
      const double a = value[t - 1][first] + transition[first][state] + emitted;
      const double b = value[t - 1][second] + transition[second][state] + emitted;
      from[t][state] = b >= a ? second : first;
      value[t][state] = b >= a ? b : a;
    }
  }
  std::vector<State> states(han.size());
  states.back() = value.back()[kSingle] >= value.back()[kEnd] ? kSingle : kEnd;
  for (std::size_t t = han.size() - 1; t > 0; --t) states[t - 1] = from[t][states[t]];
  return states;
}

/// Words of a run of Chinese characters that the dictionary does not join.
void ChineseSegmenter::Model::cut_characters(const std::u32string& han, std::vector<std::u32string>& words) const {
  const std::vector<State> states = likeliest_states(han);
  std::size_t begin = 0;
  for (std::size_t i = 0; i < han.size(); ++i) {
    if (states[i] != kEnd && states[i] != kSingle) continue;
    words.push_back(han.substr(begin, i + 1 - begin));
    begin = i + 1;
  }
  if (begin < han.size()) words.push_back(han.substr(begin));
}

/// Parts of a run of single characters: Chinese by the model; letters and digits, with a decimal part and a percent
/// sign, together; what is between them together.
void ChineseSegmenter::Model::cut_unknown(const std::u32string& run, std::vector<std::u32string>& words) const {
  const auto end_of = [&](std::size_t at, auto belongs) {
    while (at < run.size() && belongs(run[at])) ++at;
    return at;
  };
  const auto is_digit = [](char32_t code) { return code >= '0' && code <= '9'; };
  const auto is_other = [](char32_t code) { return !is_han(code) && !is_ascii_alphanumeric(code); };
  for (std::size_t begin = 0; begin < run.size();) {
    if (is_han(run[begin])) {
      const std::size_t end = end_of(begin, is_han);
      cut_characters(run.substr(begin, end - begin), words);
      begin = end;
      continue;
    }
    std::size_t end = end_of(begin, is_other);
    if (end == begin) {
      end = end_of(begin, is_ascii_alphanumeric);
      if (end < run.size() && run[end] == '.' && end_of(end + 1, is_digit) > end + 1) end = end_of(end + 1, is_digit);
      if (end < run.size() && run[end] == '%') ++end;
    }
    words.push_back(run.substr(begin, end - begin));
    begin = end;
  }
}

void ChineseSegmenter::Model::cut_block(const std::u32string& block, std::vector<std::u32string>& words) const {
  const std::vector<std::size_t> ends = likeliest_ends(block);
  std::u32string single;  // characters in a row that are words by themselves
  const auto flush = [&] {
    if (single.size() > 1 && frequency(to_utf8(single)) == 0) {
      cut_unknown(single, words);
    } else {
      for (const char32_t code : single) words.emplace_back(1, code);
    }
    single.clear();
  };
  for (std::size_t begin = 0; begin < block.size(); begin = ends[begin]) {
    if (ends[begin] == begin + 1) {
      single += block[begin];
      continue;
    }
    flush();
    words.push_back(block.substr(begin, ends[begin] - begin));
  }
  flush();
}

ChineseSegmenter::ChineseSegmenter(const std::filesystem::path& folder) : model_(std::make_unique<Model>(folder)) {}
ChineseSegmenter::~ChineseSegmenter() = default;

const ChineseSegmenter& ChineseSegmenter::instance() {
  static const ChineseSegmenter segmenter = [] {
    const char* named = std::getenv("MLA_JIEBA");
    const std::filesystem::path folder = named ? named : MLA_JIEBA_FOLDER;
    try {
      return ChineseSegmenter(folder);
    } catch (const DataError& error) {
      throw DataError(
          cat(error.what(),
              "; Chinese words are cut by jieba's dictionary: install python3-jieba, or name its folder in MLA_JIEBA"));
    }
  }();
  return segmenter;
}

std::vector<std::u32string> ChineseSegmenter::cut(std::u32string_view text) const {
  std::vector<std::u32string> words;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = begin;
    while (end < text.size() && is_word_character(text[end])) ++end;
    if (end > begin) {
      model_->cut_block(std::u32string(text.substr(begin, end - begin)), words);
      begin = end;
    } else {
      const std::size_t size = text.substr(begin).starts_with(U"\r\n") ? 2 : 1;
      words.emplace_back(text.substr(begin, size));
      begin += size;
    }
  }
  return words;
}

}  // namespace mla
