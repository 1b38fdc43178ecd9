#include "core/text/toy_stories.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "core/base/error.h"
#include "core/text/toy_passage.h"
#include "core/text/toy_words.h"

namespace mla {
namespace {

using namespace toy;

struct Kind {
  const char* name;
  Passage (*tell)(RandomStream&, Extent);
};

constexpr Kind kKinds[] = {
    {"agreement", agreement},     {"who_has_what", who_has_what},
    {"where_is_it", where_is_it}, {"order_and_count", order_and_count},
    {"copying", copying},         {"arithmetic", arithmetic},
};
constexpr int kKindCount = static_cast<int>(std::size(kKinds));
constexpr int kSongs = 4;                       ///< in kKinds
const std::vector<int> kRecall = {1, 2, 3, 4};  ///< kinds in kKinds whose answers stand in the story

constexpr int kMostAsides = 2;                                              ///< between two passages
constexpr double kSongsUntil = 0.12, kLeastUntil = 0.45, kLessUntil = 0.7;  ///< parts of all lessons
constexpr int kAskedAtOnceOdds = 2;  ///< one question in that many follows its passage; the others wait for the end

std::string aside(RandomStream& stream) {
  return cat(mla::choose(stream, names()), " is ", mla::choose(stream, moods()), ".");
}

std::string answered(const Question& question) {
  return cat(question.prompt, " ", question.choices.front(), question.ending);
}

/// A story in the making: sentences, and answered questions that are still to come.
struct Draft {
  std::vector<std::string> sentences;
  std::vector<std::string> waiting;

  std::string text(RandomStream& stream) {
    stream.shuffle(waiting);
    sentences.insert(sentences.end(), waiting.begin(), waiting.end());
    waiting.clear();
    return spaced(sentences);
  }
};

/// Tells one passage and its questions, all but `kept_back`.
void add_passage(RandomStream& stream, Passage passage, const Question* kept_back, Draft& draft) {
  draft.sentences.insert(draft.sentences.end(), passage.statements.begin(), passage.statements.end());
  stream.shuffle(passage.questions);
  for (const Question& question : passage.questions) {
    if (kept_back && question.prompt == kept_back->prompt) continue;
    (once_in(stream, kAskedAtOnceOdds) ? draft.sentences : draft.waiting).push_back(answered(question));
  }
  for (int i = draw(stream, 0, kMostAsides); i > 0; --i) draft.sentences.push_back(aside(stream));
}

std::vector<int> all_kinds() {
  std::vector<int> kinds;
  for (int i = 0; i < kKindCount; ++i) kinds.push_back(i);
  return kinds;
}

MultipleChoiceItem to_item(RandomStream& stream, const std::string& story, const Question& question) {
  MultipleChoiceItem item{story.empty() ? question.prompt : cat(story, " ", question.prompt), {}, 0};
  for (const std::string& choice : question.choices) item.choices.push_back(" " + choice);
  const std::string right = item.choices.front();
  stream.shuffle(item.choices);
  item.answer = std::find(item.choices.begin(), item.choices.end(), right) - item.choices.begin();
  return item;
}

/// So many passages of these kinds. At the least extent everything is asked twice: recall is learned from its
/// repetition.
std::string tell_story(RandomStream& stream, const std::vector<int>& kinds, int passages, Extent extent) {
  Draft draft;
  for (const int kind : choose_some(stream, kinds, passages)) {
    Passage passage = kKinds[kind].tell(stream, extent);
    if (extent == Extent::kLeast) {
      for (const Question& question : passage.questions) draft.waiting.push_back(answered(question));
    }
    add_passage(stream, std::move(passage), nullptr, draft);
  }
  return draft.text(stream);
}

}  // namespace

std::string toy_story(RandomStream& stream) {
  return tell_story(stream, all_kinds(), draw(stream, 1, kKindCount), Extent::kFull);
}

std::string toy_lesson(RandomStream& stream, std::int64_t index, std::int64_t count) {
  const double part = static_cast<double>(index) / static_cast<double>(count);
  if (part < kSongsUntil) return tell_story(stream, {kSongs}, 1, Extent::kLeast);
  if (part < kLeastUntil) return tell_story(stream, kRecall, draw(stream, 1, 2), Extent::kLeast);
  if (part < kLessUntil) return tell_story(stream, all_kinds(), draw(stream, 1, 3), Extent::kLess);
  const auto grown = static_cast<int>(kKindCount * (part - kLessUntil) / (1 - kLessUntil));  // 0 .. 5
  return tell_story(stream, all_kinds(), std::max(1, draw(stream, grown, grown + 1)), Extent::kFull);
}

std::vector<std::string> toy_tasks() {
  std::vector<std::string> tasks;
  for (const Kind& kind : kKinds) tasks.emplace_back(kind.name);
  return tasks;
}

MultipleChoiceItem toy_item(const std::string& task, RandomStream& stream) {
  const auto asked =
      std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& kind) { return kind.name == task; });
  expects(asked != std::end(kKinds), "a task of the toy language");
  const Passage passage = asked->tell(stream, Extent::kFull);
  const Question question = choose(stream, passage.questions);
  const auto asked_index = static_cast<int>(asked - std::begin(kKinds));
  std::vector<int> kinds = all_kinds();
  std::erase(kinds, asked_index);
  kinds = choose_some(stream, std::move(kinds), draw(stream, 1, kKindCount - 1));
  kinds.push_back(asked_index);
  stream.shuffle(kinds);
  Draft draft;
  for (const int kind : kinds) {
    const bool is_asked = kind == asked_index;
    add_passage(stream, is_asked ? passage : kKinds[kind].tell(stream, Extent::kFull), is_asked ? &question : nullptr,
                draft);
  }
  const std::string story = draft.text(stream);
  return to_item(stream, story, question);
}

std::vector<std::string> toy_lexicon() {
  std::set<std::string> words(function_words().begin(), function_words().end());
  for (const Words* list : {&names(), &colours(), &places(), &adjectives(), &moods(), &syllables(), &numbers()}) {
    for (const std::string& phrase : *list) {
      std::istringstream in(phrase);
      for (std::string word; in >> word;) words.insert(word);
    }
  }
  for (const std::string& thing : things()) words.insert({in_number(thing, false), in_number(thing, true)});
  return {words.begin(), words.end()};
}

}  // namespace mla
