// From a benchmark's questions to what a model is asked.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/identity.h"
#include "core/text/benchmark_question.h"
#include "core/text/multiple_choice_item.h"

namespace mla {

/// Texts with names in braces, which stand for {question}, {query}, {choice} and any text field of the row; {topic} is
/// the field subject with spaces for underscores, {options} are all choices with letters, "A. …" a line, and {letter}
/// is that of a choice; "{{" is a brace.
struct PromptTemplate {
  std::string instruction;  ///< once, before the examples and the question
  std::string context;      ///< of a question
  std::string choice;       ///< what follows the context
};

/// The prompts by name: those of lighteval's tasks as MHA2MLA evaluates with them (arXiv 2502.14837, section 4).
struct NamedPrompt {
  std::string name, description;
  PromptTemplate prompt;
};
const std::vector<NamedPrompt>& named_prompts();

/// How questions are put.
struct PromptOptions {
  std::string name = "as_given";
  std::string instruction, context, choice;
  std::int64_t few_shot = 0;
  std::string few_shot_items;
  std::string group_by;

  static constexpr std::array kLeftOut = {LeftOut{"few_shot_items", "the hash of each file's content stands for it"}};
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name,
          "as_given: the file's own queries and choices | lighteval's arc, hellaswag, mmlu, openbook_qa, piqa, "
          "winogrande | lm-evaluation-harness's letters, mmlu_letters");
    visit("instruction", self.instruction,
          "text before everything, for example \"Questions about {topic}.\\n\"; empty: the prompt's");
    visit("context", self.context,
          "a question's text, for example \"Question: {question}\\nAnswer:\"; empty: the prompt's");
    visit("choice", self.choice, "what follows it, for example \" {choice}\"; empty: the prompt's");
    visit("few_shot", self.few_shot, "solved examples before each question: the first ones of its group, itself apart");
    visit("few_shot_items", self.few_shot_items,
          "a file or folder to take the examples from; empty: the items themselves");
    visit("group_by", self.group_by,
          "a field of the rows by whose values scores are told too, for example subject; empty: none");
  }

  /// Throws ConfigError for a prompt that there is not and for a negative count.
  void validate(const std::string& path) const;
};

/// The items that `questions` make with these options, in the same order. `examples` are the questions to take solved
/// examples from; an empty list stands for `questions` themselves. Throws ConfigError naming `path` for a brace that
/// names nothing a row has, and for fewer examples than `few_shot`.
std::vector<MultipleChoiceItem> make_items(const std::vector<BenchmarkQuestion>& questions,
                                           const std::vector<BenchmarkQuestion>& examples, const PromptOptions& options,
                                           const std::string& path);

}  // namespace mla
