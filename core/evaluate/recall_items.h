// Questions whose answer stands somewhere in a long context: pass keys, needles, keys and values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/text/multiple_choice_item.h"
#include "core/text/tokenizer.h"

namespace mla {

/// What the contexts hold. Empty texts and lists are those of the kind:
///   passkey    one five-digit number in repeated sentences (Mohtashami and Jaggi, arXiv 2305.16300)
///   needle     the number of one made-up word among such sentences (RULER's single needle, arXiv 2404.06654)
///   key_value  numbers of many made-up words, and nothing else: the others mislead (RULER's multi-key needles)
struct RecallOptions {
  std::string kind = "passkey";
  std::vector<std::int64_t> lengths = {256};
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};
  std::int64_t items = 20;
  std::int64_t choices = 4;
  std::int64_t others = -1;
  std::string beginning, statement, question;
  std::vector<std::string> filler, keys, values;
  std::uint64_t seed = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("kind", self.kind,
          "passkey: a number in a monotonous text | needle: the number of a word in it | key_value: among numbers of "
          "other words");
    visit("lengths", self.lengths,
          "tokens of a context with its answer; more than the model was trained on is allowed");
    visit("depths", self.depths, "where the answer stands: 0 at the beginning, 1 right before the question");
    visit("items", self.items, "of each length and depth");
    visit("choices", self.choices, "answers to choose from, one of them right");
    visit("others", self.others, "statements about other keys; -1: as the kind has it (none, or as many as fit)");
    visit("beginning", self.beginning, "text before everything; empty: the kind's");
    visit("statement", self.statement,
          "holds the answer: text with {value}, and {key} where there are others; empty: the kind's");
    visit("question", self.question, "text right before the answer, without a space at its end; empty: the kind's");
    visit("filler", self.filler,
          "sentences that fill the context, in order and from the start again; empty: the kind's");
    visit("keys", self.keys, "words to ask for; empty: made up");
    visit("values", self.values, "answers; empty: five-digit numbers");
    visit("seed", self.seed, "of the items");
  }

  /// Throws ConfigError naming `path` for an unknown kind, sizes below 1, fewer than two choices, depths outside 0 ..
  /// 1, a statement without {value}, a question with it, and fewer keys or values than are needed.
  void validate(const std::string& path) const;
};

/// An item and where its answer stands.
struct RecallItem {
  MultipleChoiceItem question;
  std::int64_t length = 0;  ///< as asked for; the context with its longest answer has at most as many tokens
  double depth = 0;
};

/// The items, by length, then depth. Each depends on the options' seed, its length, depth and number alone (and on what
/// fits, by the tokenizer): more items or lengths do not change the others.
/// Throws DataError for a length that statement and question do not fit into.
std::vector<RecallItem> make_recall_items(const RecallOptions& options, const Tokenizer& tokenizer);

/// What `kind` may be.
std::vector<std::string> recall_kinds();

}  // namespace mla
