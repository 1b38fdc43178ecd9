#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/text/toy_passage.h"

namespace mla::toy {
namespace {

constexpr int kPlaceChoices = 4;

struct Lying {
  std::string thing, place;
  std::string before;  ///< the place it was moved from; empty: it was not
};

/// The asked one's value, then those of others; a place that the thing was moved from counts among the others.
std::vector<std::string> choices_of(RandomStream& stream, const std::vector<Lying>& all, std::size_t asked,
                                    bool place) {
  std::vector<std::string> choices = {place ? all[asked].place : all[asked].thing};
  if (place && !all[asked].before.empty()) choices.push_back(all[asked].before);
  std::vector<std::string> others;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i != asked) others.push_back(place ? all[i].place : all[i].thing);
  }
  stream.shuffle(others);
  for (const std::string& other : others) {
    if (std::ssize(choices) < kPlaceChoices) choices.push_back(other);
  }
  return choices;
}

}  // namespace

Passage where_is_it(RandomStream& stream, Extent extent) {
  const int count = fact_count(stream, extent, kPlaceChoices + 1);
  const int moved = extent == Extent::kFull ? draw(stream, 1, 2) : draw(stream, 0, 1);
  const Words asked_things = coloured_things(stream, count), spots = choose_some(stream, places(), count + moved);
  Passage passage;
  std::vector<Lying> lying;
  for (std::size_t i = 0; i < asked_things.size(); ++i) {
    lying.push_back({asked_things[i], spots[i], ""});
    passage.statements.push_back(cat("The ", asked_things[i], " is ", spots[i], "."));
  }
  for (int i = 0; i < moved; ++i) {  // things are in random order already
    Lying& thing = lying[static_cast<std::size_t>(draw(stream, 0, 1) + 2 * i)];
    thing.before = std::exchange(thing.place, spots[static_cast<std::size_t>(count + i)]);
    passage.statements.push_back(cat("Now the ", thing.thing, " is ", thing.place, "."));
  }
  for (std::size_t asked = 0; asked < std::min<std::size_t>(lying.size(), kPlaceChoices); ++asked) {
    const bool place = !once_in(stream, 3);
    const std::string prompt =
        place ? cat("Where is the ", lying[asked].thing, "? It is") : cat("What is ", lying[asked].place, "? The");
    passage.questions.push_back({prompt, choices_of(stream, lying, asked, place)});
  }
  return passage;
}

}  // namespace mla::toy
