#include <algorithm>

#include "core/base/error.h"
#include "core/text/benchmark_forms.h"

namespace mla {
namespace {

BenchmarkQuestion plain(const Json& row, const std::string& where) {
  for (const auto& [key, unused] : row.items()) {
    if (key != "context" && key != "choices" && key != "answer") {
      throw DataError(cat(where, ": ", key, ": unknown key; known: context, choices, answer"));
    }
  }
  BenchmarkQuestion question;
  question.query = text_of(row, "context", where);
  question.question = bare_question(question.query);
  question.continuations = question.choices = texts_of(row, "choices", where);
  for (std::string& choice : question.choices) choice.erase(0, choice.starts_with(' ') ? 1 : 0);
  question.answer = index_of(row, "answer", where);
  return question;
}

BenchmarkQuestion choices(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  question.query = text_of(row, row.contains("query") ? "query" : "context", where);
  question.question = bare_question(question.query);
  question.choices = texts_of(row, "choices", where);
  question.answer = index_of(row, "gold", where);
  return question;
}

/// Which of two contexts goes on as told: what they share up to the last space is the question, and what is left of
/// each begins a choice.
BenchmarkQuestion schema(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  question.contexts = texts_of(row, "context_options", where);
  if (question.contexts.empty()) throw DataError(cat(where, ": context_options is empty"));
  const std::string continuation = text_of(row, "continuation", where);
  std::size_t shared = question.contexts[0].size();
  for (const std::string& context : question.contexts) {
    const auto differ =
        std::mismatch(context.begin(), context.end(), question.contexts[0].begin(), question.contexts[0].end());
    shared = std::min(shared, static_cast<std::size_t>(differ.first - context.begin()));
  }
  const std::size_t space = question.contexts[0].substr(0, shared).find_last_of(' ');
  const std::size_t begin = space == std::string::npos ? 0 : space + 1;
  question.query = question.question = question.contexts[0].substr(0, begin);
  for (const std::string& context : question.contexts) {
    question.choices.push_back(context.substr(begin) + " " + continuation);
    question.continuations.push_back(" " + continuation);
  }
  question.answer = index_of(row, "gold", where);
  return question;
}

BenchmarkQuestion continuation(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  question.query = question.question = text_of(row, "context", where);
  question.choices = {text_of(row, "continuation", where)};
  return question;
}

BenchmarkQuestion minimal_pair(const Json& row, const std::string& where) {
  const bool full = row.contains("sentence_good");
  BenchmarkQuestion question;
  question.choices = {text_of(row, full ? "sentence_good" : "good", where),
                      text_of(row, full ? "sentence_bad" : "bad", where)};
  question.continuations = question.choices;  // whole sentences, without a space in front
  return question;
}

BenchmarkQuestion lighteval_details(const Json& row, const std::string& where) {
  BenchmarkQuestion question;
  question.query = text_of(row, "full_prompt", where);
  question.question = bare_question(question.query);
  question.continuations = question.choices = texts_of(row, "choices", where);
  question.answer = index_of(row, "gold", where);
  const auto told = row.find("loglikelihood");
  if (told == row.end()) return question;
  if (!told->is_array() || told->size() != question.choices.size()) {
    throw DataError(cat(where, ": loglikelihood: expected one number per choice (", question.choices.size(),
                        "), found ", brief(*told)));
  }
  for (const Json& value : *told) {
    if (!value.is_number()) throw DataError(cat(where, ": loglikelihood: expected numbers, found ", brief(value)));
    question.log_likelihoods.push_back(value.get<double>());
  }
  return question;
}

}  // namespace

const std::vector<RowForm>& prepared_forms() {
  static const std::vector<RowForm> forms = {
      {"lighteval",
       "full_prompt, choices, gold, and what a run of lighteval found",
       {"full_prompt", "choices", "gold"},
       lighteval_details},
      {"schema",
       "context_options, continuation, gold (llm-foundry)",
       {"context_options", "continuation", "gold"},
       schema},
      {"minimal_pair",
       "good, bad, with uid and field (BLiMP)",
       {"good|sentence_good", "bad|sentence_bad"},
       minimal_pair},
      {"choices",
       "query or context, choices, gold (llm-foundry, mc_simple); a space joins them",
       {"query|context", "choices", "gold"},
       choices},
      {"plain", "context, choices with their leading space, answer", {"context", "choices", "answer"}, plain},
      {"continuation",
       "context, continuation (LAMBADA); a space joins them",
       {"context", "continuation"},
       continuation},
  };
  return forms;
}

}  // namespace mla
