#include <algorithm>

#include "core/base/error.h"
#include "core/text/toy_passage.h"
#include "core/text/toy_words.h"

namespace mla::toy {
namespace {

/// Two neighbours in exchanged order, or one syllable replaced.
Words spoilt(RandomStream& stream, Words song) {
  const auto at = static_cast<std::size_t>(draw(stream, 0, static_cast<int>(song.size()) - 2));
  if (once_in(stream, 2)) {
    std::swap(song[at], song[at + 1]);
  } else {
    Words others = syllables();
    std::erase_if(others, [&](const auto& other) { return std::find(song.begin(), song.end(), other) != song.end(); });
    song[at] = choose(stream, others);
  }
  return song;
}

}  // namespace

Passage copying(RandomStream& stream, Extent extent) {
  const bool one = extent == Extent::kLeast;  // whose song is long, and no other's is like it
  const int length = one ? draw(stream, 5, 9) : draw(stream, 4, 6);
  const Words singers = choose_some(stream, names(), one ? 1 : draw(stream, 2, 3));
  Passage passage;
  std::vector<std::string> songs;
  for (const std::string& singer : singers) {
    const Words song = choose_some(stream, syllables(), length);
    songs.push_back(spaced(song));
    passage.statements.push_back(cat(singer, " sings ", songs.back(), "."));
    Question question{cat("Again ", singer, " sings"), {songs.back()}};
    while (question.choices.size() < 3) {
      const std::string wrong = spaced(spoilt(stream, song));
      if (std::find(question.choices.begin(), question.choices.end(), wrong) == question.choices.end()) {
        question.choices.push_back(wrong);
      }
    }
    passage.questions.push_back(std::move(question));
  }
  for (std::size_t i = 0; i < songs.size(); ++i) {
    const std::string& other = songs[(i + 1) % songs.size()];
    auto& choices = passage.questions[i].choices;
    if (std::find(choices.begin(), choices.end(), other) == choices.end()) choices.push_back(other);
  }
  return passage;
}

}  // namespace mla::toy
