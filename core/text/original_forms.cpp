#include <algorithm>
#include <cctype>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/benchmark_forms.h"

namespace mla {
namespace {

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

/// HellaSwag's texts from WikiHow carry marks in square brackets. Drops them as lighteval does.
std::string without_marks(std::string text) {
  replace_all(text, " [title]", ". ");
  for (std::size_t begin = 0; (begin = text.find('[', begin)) != std::string::npos;) {
    const std::size_t end = text.find(']', begin);
    const std::size_t line = text.find('\n', begin);
    if (end == std::string::npos) break;
    if (line < end) {
      ++begin;
    } else {
      text.erase(begin, end + 1 - begin);
    }
  }
  replace_all(text, "  ", " ");
  return text;
}

/// The first letter upper-case, the others lower-case. HellaSwag's texts are ASCII where that matters.
std::string capitalized(std::string text) {
  for (char& letter : text) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

BenchmarkQuestion hellaswag(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  const std::string label = row.contains("activity_label") ? text_of(row, "activity_label", where) + ": " : "";
  std::string text =
      without_marks(label + text_of(row, "ctx_a", where) + " " + capitalized(text_of(row, "ctx_b", where)) + " ");
  while (text.ends_with(' ')) text.pop_back();
  question.query = question.question = text;
  for (const std::string& ending : texts_of(row, "endings", where)) {
    question.choices.push_back(without_marks(" " + ending).substr(1));
  }
  question.answer = index_of(row, "label", where);
  return question;
}

/// A sentence before its gap and after it, without the spaces around the end.
std::pair<std::string, std::string> around_gap(const Json& row, const std::string& where) {
  const std::string sentence = text_of(row, "sentence", where);
  const std::size_t gap = sentence.find('_');
  if (gap == std::string::npos) throw DataError(cat(where, ": sentence: has no gap '_'"));
  std::string rest = sentence.substr(gap + 1);
  rest.erase(0, std::min(rest.find_first_not_of(" \t"), rest.size()));
  rest.erase(rest.find_last_not_of(" \t") + 1);
  return {sentence.substr(0, gap), rest};
}

/// The sentence up to its gap is the question; an option and the rest of the sentence are a choice.
BenchmarkQuestion winogrande(const Json& row, const std::string& where) {
  const auto [before, rest] = around_gap(row, where);
  BenchmarkQuestion question;
  question.query = question.question = before;
  for (const char* option : {"option1", "option2"})
    question.choices.push_back(text_of(row, option, where) + " " + rest);
  question.continuations = question.choices;  // the question ends with the space
  question.answer = index_of(row, "answer", where, -1);
  return question;
}

/// The rest of the sentence is to be said after each option in the gap (arXiv 1806.02847), as lm-evaluation-harness and
/// OLMES ask: choices have contexts of their own and one text in common.
BenchmarkQuestion winogrande_partial(const Json& row, const std::string& where) {
  BenchmarkQuestion question = winogrande(row, where);
  const auto [before, rest] = around_gap(row, where);
  question.continuations.assign(2, " " + rest);
  for (const char* option : {"option1", "option2"}) question.contexts.push_back(before + text_of(row, option, where));
  return question;
}

BenchmarkQuestion piqa(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  question.question = text_of(row, "goal", where);
  question.query = "Question: " + question.question + "\nAnswer:";
  question.choices = {text_of(row, "sol1", where), text_of(row, "sol2", where)};
  question.answer = index_of(row, "label", where);
  return question;
}

/// The place of the answer's label among the choices' labels.
std::int64_t place_of(const std::string& key, const std::vector<std::string>& labels, const std::string& where) {
  const auto found = std::find(labels.begin(), labels.end(), key);
  if (found == labels.end()) throw DataError(cat(where, ": answerKey = ", key, ": is none of the choices' labels"));
  return found - labels.begin();
}

/// AI2's questions: choices with labels, as two lists or as a list of pairs.
BenchmarkQuestion labelled(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  const Json* asked = &row;  // where the choices are
  if (row.contains("question") && row["question"].is_object()) {
    asked = &row["question"];
    question.question = text_of(*asked, "stem", where + ": question");
  } else {
    question.question = text_of(row, row.contains("question_stem") ? "question_stem" : "question", where);
  }
  question.query = row.contains("question_stem") ? question.question : "Question: " + question.question + "\nAnswer:";
  std::vector<std::string> labels;
  if (!asked->contains("choices")) throw DataError(cat(where, ": field choices is missing"));
  const Json& choices = (*asked)["choices"];
  if (choices.is_object()) {
    question.choices = texts_of(choices, "text", where + ": choices");
    labels = texts_of(choices, "label", where + ": choices");
  } else {
    for (const Json& choice : choices) {
      question.choices.push_back(text_of(choice, "text", where + ": choices"));
      labels.push_back(text_of(choice, "label", where + ": choices"));
    }
  }
  question.answer = place_of(text_of(row, "answerKey", where), labels, where);
  return question;
}

BenchmarkQuestion mmlu(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  question.question = text_of(row, "question", where);
  question.query = "Question: " + question.question + "\nAnswer:";
  question.choices = texts_of(row, "choices", where);
  const Json& answer = row["answer"];
  const std::string letter = answer.is_string() ? answer.get<std::string>() : "";
  question.answer =
      letter.size() == 1 && letter[0] >= 'A' && letter[0] <= 'Z' ? letter[0] - 'A' : index_of(row, "answer", where);
  return question;
}

BenchmarkQuestion sciq(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  question.query = question.question = text_of(row, "question", where);
  for (const char* key : {"distractor1", "distractor2", "distractor3", "correct_answer"})
    question.choices.push_back(text_of(row, key, where));
  question.answer = 3;
  return question;
}

/// Asked as lm-evaluation-harness does; the answer is a truth value, or its number as SuperGLUE has it.
BenchmarkQuestion boolq(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  question.question = text_of(row, "question", where);
  question.query = text_of(row, "passage", where) + "\nQuestion: " + question.question + "?\nAnswer:";
  question.choices = {"no", "yes"};
  const bool labelled = row.contains("label");
  const Json& answer = row[labelled ? "label" : "answer"];
  question.answer = answer.is_boolean() ? answer.get<bool>() : index_of(row, labelled ? "label" : "answer", where);
  return question;
}

/// The premise without its full stop, and "because" or "therefore"; choices begin in lower case.
BenchmarkQuestion copa(const Json& row, const std::string& where) {
  const std::string asks = text_of(row, "question", where);
  if (asks != "cause" && asks != "effect")
    throw DataError(cat(where, ": question: expected cause or effect, found ", brief_text(asks)));
  std::string premise = text_of(row, "premise", where);
  premise.erase(premise.find_last_not_of(" \t\n") + 1);
  if (!premise.empty()) premise.pop_back();
  BenchmarkQuestion question;
  question.query = question.question = premise + (asks == "cause" ? " because" : " therefore");
  for (const char* key : {"choice1", "choice2"}) {
    std::string choice = text_of(row, key, where);
    if (!choice.empty()) choice[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(choice[0])));
    question.choices.push_back(choice);
  }
  question.answer = index_of(row, "label", where);
  return question;
}

BenchmarkQuestion social_iqa(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  question.question = text_of(row, "question", where);
  question.query = "Q: " + text_of(row, "context", where) + " " + question.question + "\nA:";
  for (const char* key : {"answerA", "answerB", "answerC"}) question.choices.push_back(text_of(row, key, where));
  question.answer = index_of(row, "label", where, -1);
  return question;
}

}  // namespace

const std::vector<RowForm>& original_forms() {
  static const std::vector<RowForm> forms = {
      {"winogrande",
       "sentence with a gap, option1, option2, answer",
       {"sentence", "option1", "option2", "answer"},
       winogrande},
      {"winogrande_partial",
       "the same, asked for the rest of the sentence after each option (lm-evaluation-harness); never by \"auto\"",
       {"sentence", "option1", "option2", "answer"},
       winogrande_partial},
      {"hellaswag",
       "ctx_a, ctx_b, endings, label, with activity_label",
       {"ctx_a", "ctx_b", "endings", "label"},
       hellaswag},
      {"piqa", "goal, sol1, sol2, and label or a file of labels beside it", {"goal", "sol1", "sol2"}, piqa},
      {"ai2",
       "question or question_stem, labelled choices, answerKey (ARC, OpenBookQA, CommonsenseQA)",
       {"question|question_stem", "answerKey"},
       labelled},
      {"sciq",
       "question, correct_answer, distractor1, distractor2, distractor3",
       {"question", "correct_answer", "distractor1"},
       sciq},
      {"boolq", "passage, question, and answer (true, false) or label", {"passage", "question", "answer|label"}, boolq},
      {"copa", "premise, choice1, choice2, question, label", {"premise", "choice1", "choice2", "label"}, copa},
      {"social_iqa",
       "context, question, answerA, answerB, answerC, label",
       {"context", "question", "answerA", "label"},
       social_iqa},
      {"mmlu",
       "question, choices, answer, with subject; or CSV: question, choices, letter",
       {"question", "choices", "answer"},
       mmlu},
  };
  return forms;
}

}  // namespace mla
