#include "core/text/benchmark_prompt.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kAsGiven = "as_given";
/// Between solved examples.
constexpr const char* kBetween = "\n\n";

/// Of a choice by its place; a letter for each, as far as there are some.
std::string letter_of(std::int64_t choice) { return std::string(1, static_cast<char>('A' + choice)); }

/// "A. …\nB. …"
std::string options_of(const BenchmarkQuestion& question, const std::string& path) {
  constexpr std::int64_t kLetters = 26;
  if (std::ssize(question.choices) > kLetters)
    throw ConfigError(cat(path, ": {options}: ", question.choices.size(), " choices are more than there are letters"));
  std::string text;
  for (std::size_t i = 0; i < question.choices.size(); ++i)
    text += cat(i == 0 ? "" : "\n", letter_of(static_cast<std::int64_t>(i)), ". ", question.choices[i]);
  return text;
}

/// `choice`: the place of one, where the text is that of a choice; else -1.
std::string value_of(const BenchmarkQuestion& question, std::int64_t choice, const std::string& name,
                     const std::string& path) {
  if (name == "question") return question.question;
  if (name == "query") return question.query;
  if (name == "choice") return choice < 0 ? "" : question.choices.at(static_cast<std::size_t>(choice));
  if (name == "options") return options_of(question, path);
  if (name == "letter" && choice >= 0) return letter_of(choice);
  if (name == "topic" && question.fields.contains("subject")) {
    std::string topic = question.fields.at("subject");
    std::replace(topic.begin(), topic.end(), '_', ' ');
    return topic;
  }
  const auto found = question.fields.find(name);
  if (found != question.fields.end()) return found->second;
  std::vector<std::string> known = {"question", "query", "choice", "options", "letter"};
  for (const auto& [field, value] : question.fields) known.push_back(field);
  throw ConfigError(cat(path, ": {", name, "}: ", unknown_name(name, known)));
}

std::string filled(const std::string& text, const BenchmarkQuestion& question, std::int64_t choice,
                   const std::string& path) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const std::size_t end = text[at] == '{' ? text.find('}', at) : std::string::npos;
    if (text.compare(at, 2, "{{") == 0 || text.compare(at, 2, "}}") == 0) {
      out += text[at++];
    } else if (end == std::string::npos) {
      out += text[at];
    } else {
      out += value_of(question, choice, text.substr(at + 1, end - at - 1), path);
      at = end;
    }
  }
  return out;
}

/// Puts questions in one way.
class Prompter {
 public:
  Prompter(const PromptOptions& options, std::string path)
      : path_(std::move(path)), as_given_(options.name == kAsGiven) {
    for (const NamedPrompt& named : named_prompts()) {
      if (named.name == options.name) prompt_ = named.prompt;
    }
    own_context_ = as_given_ && options.context.empty();
    own_choice_ = as_given_ && options.choice.empty();
    if (!options.instruction.empty()) prompt_.instruction = options.instruction;
    if (!options.context.empty()) prompt_.context = options.context;
    if (!options.choice.empty()) prompt_.choice = options.choice;
  }

  std::string instruction(const BenchmarkQuestion& question) const {
    return filled(prompt_.instruction, question, -1, path_ + ".instruction");
  }

  MultipleChoiceItem put(const BenchmarkQuestion& question) const {
    MultipleChoiceItem item;
    item.answer = question.answer;
    item.context = own_context_ ? question.query : filled(prompt_.context, question, -1, path_ + ".context");
    if (own_context_) item.contexts = question.contexts;
    const bool verbatim = own_choice_ && (own_context_ || question.contexts.empty()) && !question.continuations.empty();
    for (std::size_t i = 0; i < question.choices.size(); ++i) {
      if (verbatim) {
        item.choices.push_back(question.continuations[i]);
      } else if (own_choice_) {
        item.choices.push_back((item.context.empty() || item.context.ends_with(' ') ? "" : " ") + question.choices[i]);
      } else {
        item.choices.push_back(filled(prompt_.choice, question, static_cast<std::int64_t>(i), path_ + ".choice"));
      }
    }
    return item;
  }

  /// A question with its right choice.
  std::string solved(const BenchmarkQuestion& question) const {
    const MultipleChoiceItem item = put(question);
    const auto answer = static_cast<std::size_t>(item.answer);
    return (item.contexts.empty() ? item.context : item.contexts[answer]) + item.choices[answer];
  }

 private:
  std::string path_;
  bool as_given_, own_context_ = false, own_choice_ = false;
  PromptTemplate prompt_;
};

std::string group_of(const BenchmarkQuestion& question) {
  const auto found = question.fields.find("subject");
  return found == question.fields.end() ? "" : found->second;
}

bool same(const BenchmarkQuestion& a, const BenchmarkQuestion& b) {
  return a.query == b.query && a.choices == b.choices && a.contexts == b.contexts;
}

/// Solved examples by group.
class Examples {
 public:
  Examples(const std::vector<BenchmarkQuestion>& questions, std::int64_t count, const std::string& path)
      : count_(count), path_(path) {
    for (const BenchmarkQuestion& question : questions) groups_[group_of(question)].push_back(&question);
  }

  std::string before(const BenchmarkQuestion& question, const Prompter& prompter) const {
    std::string text;
    std::int64_t left = count_;
    const auto group = groups_.find(group_of(question));
    for (std::size_t i = 0; left > 0 && group != groups_.end() && i < group->second.size(); ++i) {
      if (same(*group->second[i], question)) continue;
      text += prompter.solved(*group->second[i]) + kBetween;
      --left;
    }
    if (left > 0)
      throw ConfigError(
          cat(path_, ".few_shot = ", count_, ": there are only ", count_ - left, " examples for a question"));
    return text;
  }

 private:
  std::int64_t count_;
  std::string path_;
  std::map<std::string, std::vector<const BenchmarkQuestion*>> groups_;
};

}  // namespace

const std::vector<NamedPrompt>& named_prompts() {
  static const std::vector<NamedPrompt> prompts = {
      {"arc", "ARC easy and challenge", {"", "Question: {question}\nAnswer:", " {choice}"}},
      {"hellaswag", "HellaSwag; the space after the context counts to its endings", {"", "{question} ", " {choice}"}},
      {"mmlu",
       "MMLU in its cloze form",
       {"The following are questions about {topic}.\n", "Question: {question}\nAnswer:", " {choice}"}},
      {"letters",
       "lm-evaluation-harness's CommonsenseQA: options with letters, of which one is the answer",
       {"", "Question: {question}\n{options}\nAnswer:", " {letter}"}},
      {"mmlu_letters",
       "lm-evaluation-harness's MMLU: options with letters, of which one is the answer",
       {"The following are multiple choice questions (with answers) about {topic}.\n\n",
        "{question}\n{options}\nAnswer:", " {letter}"}},
      {"openbook_qa", "OpenBookQA", {"", "{question}", " {choice}"}},
      {"piqa", "PIQA", {"", "Question: {question}\nAnswer:", " {choice}"}},
      {"winogrande",
       "WinoGrande: the sentence up to its gap, then an option and the rest",
       {"", "{question}", "{choice}"}},
  };
  return prompts;
}

void PromptOptions::validate(const std::string& path) const {
  std::vector<std::string> known = {kAsGiven};
  for (const NamedPrompt& named : named_prompts()) known.push_back(named.name);
  if (std::find(known.begin(), known.end(), name) == known.end())
    throw ConfigError(cat(path, ".name: ", unknown_name(name, known)));
  if (few_shot < 0) throw ConfigError(cat(path, ".few_shot = ", few_shot, ": must not be negative"));
}

std::vector<MultipleChoiceItem> make_items(const std::vector<BenchmarkQuestion>& questions,
                                           const std::vector<BenchmarkQuestion>& examples, const PromptOptions& options,
                                           const std::string& path) {
  options.validate(path);
  const Prompter prompter(options, path);
  const Examples solved(examples.empty() ? questions : examples, options.few_shot, path);
  std::vector<MultipleChoiceItem> items;
  for (const BenchmarkQuestion& question : questions) {
    MultipleChoiceItem item = prompter.put(question);
    const std::string before = prompter.instruction(question) + solved.before(question, prompter);
    item.context = before + item.context;
    for (std::string& context : item.contexts) context = before + context;
    if (!options.group_by.empty()) item.group = value_of(question, -1, options.group_by, path + ".group_by");
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace mla
