#include <algorithm>

#include "core/base/error.h"
#include "core/text/toy_passage.h"
#include "core/text/toy_words.h"

namespace mla::toy {
namespace {

constexpr int kArithmeticQuestions = 3;
constexpr int kArithmeticChoices = 4;
constexpr int kLargest = 18;
constexpr int kFarthest = 3;  ///< of a wrong choice from the right one

/// The right number, then others close to it.
std::vector<std::string> around(RandomStream& stream, int right) {
  std::vector<int> close;
  for (int number = std::max(1, right - kFarthest); number <= std::min(kLargest, right + kFarthest); ++number) {
    if (number != right) close.push_back(number);
  }
  std::vector<std::string> choices = {number_word(right)};
  for (const int number : choose_some(stream, std::move(close), kArithmeticChoices - 1))
    choices.push_back(number_word(number));
  return choices;
}

Question ask(RandomStream& stream, const std::string& expression, int result) {
  return {cat("We know that ", expression, " is"), around(stream, result)};
}

Question sum(RandomStream& stream) {
  const int a = draw(stream, 1, 9), b = draw(stream, 1, 9);
  return ask(stream, cat(number_word(a), " plus ", number_word(b)), a + b);
}

Question difference(RandomStream& stream) {
  const int a = draw(stream, 2, 9), b = draw(stream, 1, a - 1);
  return ask(stream, cat(number_word(a), " minus ", number_word(b)), a - b);
}

Question sum_of_three(RandomStream& stream) {
  const int a = draw(stream, 1, 4), b = draw(stream, 1, 4), c = draw(stream, 1, 4);
  return ask(stream, cat(number_word(a), " plus ", number_word(b), " plus ", number_word(c)), a + b + c);
}

}  // namespace

Passage arithmetic(RandomStream& stream, Extent) {
  Passage passage;
  for (int i = 0; i < kArithmeticQuestions; ++i) {
    const int kind = draw(stream, 0, 3);
    passage.questions.push_back(kind < 2 ? sum(stream) : kind == 2 ? difference(stream) : sum_of_three(stream));
  }
  return passage;
}

}  // namespace mla::toy
