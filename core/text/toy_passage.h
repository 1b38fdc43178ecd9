// What a toy story is made of: passages of one kind each, with the questions that they answer.
#pragma once

#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/text/toy_words.h"

namespace mla::toy {

/// A sentence whose middle is decided by what stands before it: prompt, " ", the right choice, ending.
struct Question {
  std::string prompt;                ///< "Who has the red ball?"
  std::vector<std::string> choices;  ///< the right one, then wrong ones that would be right elsewhere in the story
  std::string ending = ".";
};

/// Statements in the order in which they are told, and questions with one right answer each after all of them. A story
/// holds at most one passage of a kind, so that nothing else in it answers them.
struct Passage {
  std::vector<std::string> statements;
  std::vector<Question> questions;
};

/// How much a passage tells: few facts from which recall is learned first, or as much as tasks ask for.
enum class Extent { kLeast, kLess, kFull };

/// How many facts there are to be recalled; at full extent four, for as many choices, to `most`.
inline int fact_count(RandomStream& stream, Extent extent, int most) {
  if (extent == Extent::kLeast) return 2;
  return extent == Extent::kLess ? draw(stream, 3, 4) : draw(stream, 4, most);
}

/// Verbs in the number of a subject that other nouns, mostly of the other number, stand between: "The red balls near
/// the cup behind the hat" + "are" or "is". Two choices.
Passage agreement(RandomStream& stream, Extent extent);

/// Who owns which of several things that share colours and kinds, asked in both directions. Up to four choices, as in
/// the following: all four at full extent.
Passage who_has_what(RandomStream& stream, Extent extent);

/// Where things lie, of which some are moved later: the last place counts. Asked in both directions; the place before
/// is a wrong choice.
Passage where_is_it(RandomStream& stream, Extent extent);

/// Who stands before or after whom in a row, first or last, and how often a thing occurs in a list.
Passage order_and_count(RandomStream& stream, Extent extent);

/// Songs of four to six different syllables, sung again. Wrong choices: two syllables exchanged, one replaced,
/// another's song.
Passage copying(RandomStream& stream, Extent extent);

/// Sums, differences and sums of three within 1 .. 18, in words; known by heart, not from the story.
Passage arithmetic(RandomStream& stream, Extent extent);

}  // namespace mla::toy
