// The words of the toy language, and drawing from them.
#pragma once

#include <string>
#include <vector>

#include "core/base/random.h"

namespace mla::toy {

using Words = std::vector<std::string>;

const Words& names();
const Words& colours();
const Words& things();      ///< singular; the plural adds an s
const Words& places();      ///< phrases: "in the garden"
const Words& adjectives();  ///< of things
const Words& moods();       ///< of people
const Words& syllables();   ///< of songs
const Words& numbers();     ///< "one" … "eighteen"; the word of n stands at n - 1

/// Words that stand in sentences outside of these lists.
const Words& function_words();

/// "ball" or "balls".
std::string in_number(const std::string& thing, bool plural);

/// The word of a number from 1 to 18.
const std::string& number_word(int number);

/// The words with a space between them.
std::string spaced(const Words& words);

/// Uniform in first .. last.
int draw(RandomStream& stream, int first, int last);

/// True once in `odds` draws.
bool once_in(RandomStream& stream, int odds);

/// One of `items`.
template <class T>
const T& choose(RandomStream& stream, const std::vector<T>& items) {
  return items[static_cast<std::size_t>(stream.below(items.size()))];
}

/// `count` different ones of `items`, in random order.
template <class T>
std::vector<T> choose_some(RandomStream& stream, std::vector<T> items, int count) {
  stream.shuffle(items);
  items.resize(static_cast<std::size_t>(count));
  return items;
}

/// `count` different coloured things, "red ball", in random order; colours and kinds recur among them, so that neither
/// alone tells two apart. At most 12.
Words coloured_things(RandomStream& stream, int count);

}  // namespace mla::toy
