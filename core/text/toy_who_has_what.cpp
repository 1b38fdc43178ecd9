#include <algorithm>

#include "core/base/error.h"
#include "core/text/toy_passage.h"

namespace mla::toy {
namespace {

constexpr int kOwnerChoices = 4;

}  // namespace

Passage who_has_what(RandomStream& stream, Extent extent) {
  const int count = fact_count(stream, extent, kOwnerChoices + 2), asked_count = std::min(count, kOwnerChoices);
  const Words owners = choose_some(stream, names(), count), owned = coloured_things(stream, count);
  Passage passage;
  std::vector<std::size_t> facts;
  for (std::size_t i = 0; i < owners.size(); ++i) {
    passage.statements.push_back(cat(owners[i], " has a ", owned[i], "."));
    facts.push_back(i);
  }
  for (int asked = 0; asked < asked_count; ++asked) {
    // A fact is asked for once; the first facts of each new order are the right one and the wrong choices.
    std::vector<std::size_t> order = choose_some(stream, facts, count);
    const auto right = static_cast<std::size_t>(asked);
    std::swap(*std::find(order.begin(), order.end(), right), order.front());
    Question question;
    const bool who = once_in(stream, 2);
    question.prompt = who ? cat("Who has the ", owned[right], "?") : cat("What does ", owners[right], " have? A");
    for (int i = 0; i < asked_count; ++i)
      question.choices.push_back((who ? owners : owned)[order[static_cast<std::size_t>(i)]]);
    passage.questions.push_back(std::move(question));
  }
  return passage;
}

}  // namespace mla::toy
