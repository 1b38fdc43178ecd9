#include "core/text/toy_stories.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

namespace mla {
namespace {

using Words = std::vector<std::string>;
using Slots = std::map<std::string, std::string>;

constexpr std::size_t kFacts = 2;
constexpr std::size_t kRecallsPerFact = 2;

/// What a slot of a sentence can hold. Where number decides, the singular stands before its plural.
const std::map<std::string, Words>& choices() {
  static const std::map<std::string, Words> all = {
      {"name", {"Tom", "Anna", "Ben", "Mia", "Max", "Lily", "Leo", "Zoe"}},  // he and she in turn
      {"and", {"and"}},
      {"They", {"He", "She", "They"}},
      {"has", {"has", "have"}},
      {"be", {"is", "are"}},
      {"walk", {"walks", "walk"}},
      {"a", {"a", "two"}},
      {"colour", {"red", "blue", "green", "yellow", "white", "black"}},
      {"thing", {"ball", "balls", "kite", "kites", "hat", "hats", "drum", "drums", "boat", "boats", "book", "books"}},
      {"is", {"is", "are"}},
      {"it", {"it", "them"}},
      {"It", {"It", "They"}},
      {"place",
       {"in the garden", "under the table", "near the river", "behind the house", "on the hill", "in the box"}},
      {"mood", {"happy", "sad", "tired", "hungry"}},
      {"goal", {"school", "shop", "farm", "lake"}},
  };
  return all;
}

constexpr const char* kOwns = "{who} {has} {a} {colour} {thing}.";
constexpr const char* kLies = "The {colour} {thing} {is} {place}.";
constexpr const char* kAside = "{who} {be} {mood}. {They} {walk} to the {goal}.";
constexpr const char* kRecalls[] = {
    "{who} still {has} the {colour} {thing}.",
    "The {colour} {thing} {is} still {place}.",
    "Who has the {colour} {thing}? {who} {has} {it}.",
    "Where {is} the {colour} {thing}? {It} {is} {place}.",
};

std::size_t draw(RandomStream& stream, std::size_t count) { return static_cast<std::size_t>(stream.below(count)); }

std::string choose(RandomStream& stream, const std::string& slot) {
  const Words& words = choices().at(slot);
  return words[draw(stream, words.size())];
}

/// `sentence` with each {slot} replaced.
std::string fill(std::string sentence, const Slots& slots) {
  for (std::size_t begin = sentence.find('{'); begin != std::string::npos; begin = sentence.find('{', begin)) {
    const std::size_t end = sentence.find('}', begin);
    const std::string& word = slots.at(sentence.substr(begin + 1, end - begin - 1));
    sentence.replace(begin, end - begin + 1, word);
    begin += word.size();
  }
  return sentence;
}

/// One name, or sometimes two; takes them from the end of `names`, which are indices.
void set_owner(RandomStream& stream, std::vector<std::size_t>& names, Slots& slots) {
  const auto take = [&] {
    const std::size_t name = names.back();
    names.pop_back();
    return name;
  };
  const std::size_t first = take();
  const bool plural = draw(stream, 3) == 0;
  slots["who"] = choices().at("name")[first];
  if (plural) slots["who"] += " and " + choices().at("name")[take()];
  for (const char* verb : {"has", "be", "walk"}) slots[verb] = choices().at(verb)[plural];
  slots["They"] = choices().at("They")[plural ? 2 : first % 2];
}

/// `item`: a colour and a kind of thing, as one number.
void set_item(RandomStream& stream, std::size_t item, Slots& slots) {
  const Words& things = choices().at("thing");
  const std::size_t kinds = things.size() / 2;
  const bool plural = draw(stream, 2) == 0;
  slots["colour"] = choices().at("colour")[item / kinds];
  slots["thing"] = things[2 * (item % kinds) + (plural ? 1 : 0)];
  for (const char* word : {"a", "is", "it", "It"}) slots[word] = choices().at(word)[plural];
}

std::vector<std::size_t> shuffled(RandomStream& stream, std::size_t count) {
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  stream.shuffle(order);
  return order;
}

/// Facts whose owners share no name and whose items differ in colour or kind, so that every question has one answer.
std::vector<Slots> draw_facts(RandomStream& stream) {
  std::vector<std::size_t> names = shuffled(stream, choices().at("name").size());
  const auto items = shuffled(stream, choices().at("colour").size() * choices().at("thing").size() / 2);
  std::vector<Slots> facts(kFacts);
  for (std::size_t i = 0; i < kFacts; ++i) {
    set_owner(stream, names, facts[i]);
    set_item(stream, items[i], facts[i]);
    for (const char* slot : {"place", "mood", "goal"}) facts[i][slot] = choose(stream, slot);
  }
  return facts;
}

/// The words of `text`, without marks and without slots.
void collect_words(const std::string& text, std::set<std::string>& words) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    std::string word = text.substr(begin, end - begin);
    while (!word.empty() && (word.back() == '.' || word.back() == '?')) word.pop_back();
    if (word.find('{') == std::string::npos) words.insert(word);
    begin = end + 1;
  }
}

}  // namespace

std::string toy_story(RandomStream& stream) {
  std::vector<Slots> facts = draw_facts(stream);
  Words sentences;
  for (const Slots& fact : facts) {
    sentences.push_back(fill(kOwns, fact));
    sentences.push_back(fill(kLies, fact));
  }
  stream.shuffle(sentences);
  sentences.push_back(fill(kAside, facts[draw(stream, kFacts)]));
  Words recalls;
  for (const Slots& fact : facts) {
    const auto forms = shuffled(stream, std::size(kRecalls));
    for (std::size_t i = 0; i < kRecallsPerFact; ++i) recalls.push_back(fill(kRecalls[forms[i]], fact));
  }
  stream.shuffle(recalls);
  sentences.insert(sentences.end(), recalls.begin(), recalls.end());
  std::string story;
  for (const std::string& sentence : sentences) story += (story.empty() ? "" : " ") + sentence;
  return story;
}

std::vector<std::string> toy_lexicon() {
  std::set<std::string> words;
  for (const auto& [slot, texts] : choices()) {
    for (const std::string& text : texts) collect_words(text, words);
  }
  for (const char* sentence : {kOwns, kLies, kAside}) collect_words(sentence, words);
  for (const char* sentence : kRecalls) collect_words(sentence, words);
  return {words.begin(), words.end()};
}

}  // namespace mla
