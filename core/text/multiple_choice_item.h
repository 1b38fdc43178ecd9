// Questions with several choices, and reading them from files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mla {

/// A text and its possible continuations, of which one is right; one alone is to be said rather than chosen. A choice
/// is what follows the context letter for letter, its leading space included.
struct MultipleChoiceItem {
  std::string context;
  std::vector<std::string> choices;
  std::int64_t answer = 0;                 ///< index of the right choice
  std::vector<std::string> contexts = {};  ///< one per choice instead of `context`, where they differ; else empty
  std::string group = {};                  ///< whose scores are told besides; empty: none

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("context", self.context, "the text so far");
    visit("choices", self.choices, "two or more continuations, each with its leading space");
    visit("answer", self.answer, "index of the right one, counted from 0");
  }
  bool operator==(const MultipleChoiceItem&) const = default;
};

/// The items of a file read by read_json_lines(), such as `{"context": "…", "choices": [" a", " b"], "answer": 0}`.
/// `limit`: only the first ones; 0: all. Throws DataError naming file and line for malformed JSON, a missing, unknown
/// or mistyped field, fewer than two choices, an empty choice, one given twice and an answer out of range; naming the
/// file for one that holds no item.
std::vector<MultipleChoiceItem> read_multiple_choice_items(const std::filesystem::path& file, std::int64_t limit = 0);

/// The file's text that the function above reads.
std::string write_multiple_choice_items(const std::vector<MultipleChoiceItem>& items);

}  // namespace mla
