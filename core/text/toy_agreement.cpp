#include "core/base/error.h"
#include "core/text/toy_passage.h"
#include "core/text/toy_words.h"

namespace mla::toy {
namespace {

constexpr int kAgreementQuestions = 3;

/// One to three nouns after the subject. In half of all cases each of them has the other number than it.
std::string attractors(RandomStream& stream, bool plural, const Words& links) {
  static const Words between = {"near", "behind", "under"};
  const bool all_other = once_in(stream, 2);
  std::string text;
  const int count = draw(stream, 1, 3);
  for (int i = 0; i < count; ++i) {
    const bool other_plural = all_other ? !plural : once_in(stream, 2);
    const std::string& link = i == 0 && !links.empty() ? links.front() : choose(stream, between);
    text += cat(" ", link, " the ", in_number(choose(stream, things()), other_plural));
  }
  return text;
}

Question of_things(RandomStream& stream) {
  const bool plural = once_in(stream, 2);
  const std::string subject = cat("The ", choose(stream, colours()), " ", in_number(choose(stream, things()), plural));
  Question question{subject + attractors(stream, plural, {}), {"is", "are"}, ""};
  if (plural) std::swap(question.choices[0], question.choices[1]);
  question.ending = cat(" ", choose(stream, adjectives()), ".");
  return question;
}

Question of_people(RandomStream& stream) {
  const bool plural = once_in(stream, 2);
  const Words people = choose_some(stream, names(), 2);
  const std::string subject = plural ? cat(people[0], " and ", people[1]) : people[0];
  Question question{subject + attractors(stream, plural, {"with"}), {"walks", "walk"}, ""};
  if (plural) std::swap(question.choices[0], question.choices[1]);
  question.ending = cat(" to the ", once_in(stream, 2) ? "river." : "lake.");
  return question;
}

}  // namespace

Passage agreement(RandomStream& stream, Extent) {
  Passage passage;
  for (int i = 0; i < kAgreementQuestions; ++i) {
    passage.questions.push_back(once_in(stream, 3) ? of_people(stream) : of_things(stream));
  }
  return passage;
}

}  // namespace mla::toy
