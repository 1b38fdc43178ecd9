#include <algorithm>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/text/toy_passage.h"
#include "core/text/toy_words.h"

namespace mla::toy {
namespace {

constexpr int kCountChoices = 4;
constexpr int kMostCounted = 5;

/// `right`, then others of `all`.
std::vector<std::string> with_others(RandomStream& stream, const std::string& right, Words all) {
  std::erase(all, right);
  const int count = std::min(kCountChoices - 1, static_cast<int>(all.size()));
  std::vector<std::string> choices = choose_some(stream, std::move(all), count);
  choices.insert(choices.begin(), right);
  return choices;
}

int row_length(RandomStream& stream, Extent extent) {
  if (extent == Extent::kLeast) return 3;
  return extent == Extent::kLess ? draw(stream, 4, 5) : draw(stream, 5, 6);
}

void add_row(RandomStream& stream, Extent extent, Passage& passage) {
  const Words row = choose_some(stream, names(), row_length(stream, extent));
  passage.statements.push_back(cat("Here is a row: ", join(row), "."));
  const auto at = static_cast<std::size_t>(draw(stream, 1, static_cast<int>(row.size()) - 2));
  passage.questions.push_back({cat("Who stands after ", row[at], "?"), with_others(stream, row[at + 1], row)});
  passage.questions.push_back({cat("Who stands before ", row[at], "?"), with_others(stream, row[at - 1], row)});
  const bool first = once_in(stream, 2);
  passage.questions.push_back(
      {cat("Who is ", first ? "first?" : "last?"), with_others(stream, first ? row.front() : row.back(), row)});
}

void add_list(RandomStream& stream, Passage& passage) {
  const Words kinds = choose_some(stream, things(), 3);
  const int counted = draw(stream, 1, kMostCounted - 1), others = draw(stream, 1, 3);
  Words list(static_cast<std::size_t>(counted), "a " + kinds[0]);
  for (int i = 0; i < others; ++i) list.push_back("a " + kinds[static_cast<std::size_t>(draw(stream, 1, 2))]);
  stream.shuffle(list);
  const std::string& name = choose(stream, names());
  passage.statements.push_back(cat(name, " sees ", join(list), "."));
  const Words counts(numbers().begin(), numbers().begin() + kMostCounted);
  passage.questions.push_back({cat("How many ", in_number(kinds[0], true), " does ", name, " see?"),
                               with_others(stream, number_word(counted), counts)});
}

}  // namespace

Passage order_and_count(RandomStream& stream, Extent extent) {
  Passage passage;
  add_row(stream, extent, passage);
  add_list(stream, passage);
  return passage;
}

}  // namespace mla::toy
