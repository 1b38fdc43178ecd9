#include "core/text/toy_words.h"

#include "core/base/error.h"

namespace mla::toy {
namespace {

constexpr int kColoursOfAStory = 3;
constexpr int kThingsOfAStory = 4;

}  // namespace

const Words& names() {
  static const Words words = {"Tom", "Anna", "Ben", "Mia", "Max", "Lily", "Leo", "Zoe", "Sam", "Eva", "Tim", "Ida"};
  return words;
}

const Words& colours() {
  static const Words words = {"red", "blue", "green", "white", "black", "brown", "pink", "grey"};
  return words;
}

const Words& things() {
  static const Words words = {"ball", "kite", "hat", "drum", "boat", "book", "cup", "bell", "coat", "ring"};
  return words;
}

const Words& places() {
  static const Words words = {"in the garden", "in the house",    "under the table", "under the tree", "near the river",
                              "near the lake", "behind the barn", "behind the wall", "on the hill",    "on the roof"};
  return words;
}

const Words& adjectives() {
  static const Words words = {"new", "old", "big", "small"};
  return words;
}

const Words& moods() {
  static const Words words = {"happy", "sad", "tired", "hungry"};
  return words;
}

const Words& syllables() {
  static const Words words = {"la", "ti", "do", "mi", "so", "fa", "re", "ba",
                              "ku", "ne", "po", "wi", "zu", "ge", "lo", "va"};
  return words;
}

const Words& numbers() {
  static const Words words = {"one",      "two",      "three",   "four",    "five",      "six",
                              "seven",    "eight",    "nine",    "ten",     "eleven",    "twelve",
                              "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"};
  return words;
}

const Words& function_words() {
  static const Words words = {"A",     "Again",  "Here",  "How",  "It",   "Now",    "The",  "We",    "What", "Where",
                              "Who",   "a",      "after", "and",  "are",  "before", "does", "first", "has",  "have",
                              "in",    "is",     "know",  "last", "many", "minus",  "plus", "row",   "see",  "sees",
                              "sings", "stands", "that",  "the",  "walk", "walks",  "with", "to"};
  return words;
}

std::string in_number(const std::string& thing, bool plural) { return plural ? thing + "s" : thing; }

const std::string& number_word(int number) { return numbers().at(static_cast<std::size_t>(number - 1)); }

std::string spaced(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

int draw(RandomStream& stream, int first, int last) {
  return first + static_cast<int>(stream.below(static_cast<std::uint64_t>(last - first + 1)));
}

bool once_in(RandomStream& stream, int odds) { return stream.below(static_cast<std::uint64_t>(odds)) == 0; }

Words coloured_things(RandomStream& stream, int count) {
  Words all;
  const Words kinds = choose_some(stream, things(), kThingsOfAStory);
  for (const std::string& colour : choose_some(stream, colours(), kColoursOfAStory)) {
    for (const std::string& kind : kinds) all.push_back(cat(colour, " ", kind));
  }
  return choose_some(stream, std::move(all), count);
}

}  // namespace mla::toy
