#include "core/text/benchmark_question.h"

#include <algorithm>
#include <sstream>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/text/benchmark_forms.h"
#include "core/text/csv.h"
#include "core/text/json_lines.h"
#include "core/text/text_file.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr const char* kRequests = "olmes";
constexpr const char* kCsv = "mmlu";
/// OLMES numbers the requests that score a choice without its question from here on.
constexpr std::int64_t kUnconditional = 1000000;

std::vector<RowForm> row_forms() {
  std::vector<RowForm> forms = prepared_forms();
  forms.insert(forms.end(), original_forms().begin(), original_forms().end());
  return forms;
}

bool has(const Json& row, const std::string& alternatives) {
  std::istringstream keys(alternatives);
  for (std::string key; std::getline(keys, key, '|');) {
    if (row.contains(key)) return true;
  }
  return false;
}

void check(const BenchmarkQuestion& question, const std::string& where) {
  const auto& choices = question.choices;
  if (choices.empty()) throw DataError(cat(where, ": choices: expected at least 1, found 0"));
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].find_first_not_of(" \t\r\n") == std::string::npos)
      throw DataError(cat(where, ": choices[", i, "] is empty"));
  }
  if (question.answer < 0 || question.answer >= std::ssize(choices)) {
    throw DataError(cat(where, ": the answer's index ", question.answer, " is outside 0..", choices.size() - 1));
  }
}

/// Puts the questions of files together.
class Collector {
 public:
  Collector(std::string form, std::int64_t limit) : form_(std::move(form)), limit_(limit), forms_(row_forms()) {}

  bool full() const { return limit_ > 0 && std::ssize(questions_) >= limit_; }

  void read_json(const std::filesystem::path& file) {
    begin_file(file);
    read_json_lines(file, [&](const Json& row, const std::string& where) {
      if (form_ == "auto") form_ = form_of(row, where);
      if (form_ == kRequests) return add_request(row, where);
      if (full()) return false;
      add_row(row, where);
      return true;
    });
  }

  void read_csv(const std::filesystem::path& file) {
    if (form_ == "auto") form_ = kCsv;
    if (form_ != kCsv) throw DataError(cat(file.string(), ": a CSV file has the form ", kCsv, ", not ", form_));
    std::string subject = file.filename().string();
    subject = subject.substr(0, subject.find(".csv"));
    for (const std::string part : {"_test", "_dev", "_val"}) {
      if (subject.ends_with(part)) subject.erase(subject.size() - part.size());
    }
    for (const CsvRecord& record : parse_csv(replace_invalid_utf8(read_text_file(file)), file.string())) {
      if (full()) return;
      const std::string where = cat(file.string(), ": line ", record.line);
      if (record.cells.size() < 4) {
        throw DataError(cat(where,
                            ": expected a question, two choices or more, and the letter of the right one, found ",
                            record.cells.size(), " cells"));
      }
      const Json row = {{"question", record.cells.front()},
                        {"choices", std::vector(record.cells.begin() + 1, record.cells.end() - 1)},
                        {"answer", record.cells.back()},
                        {"subject", subject}};
      add_row(row, where);
    }
  }

  BenchmarkFile result() {
    for (std::size_t i = 0; i < questions_.size(); ++i) check(questions_[i], places_[i]);
    return {form_, std::move(questions_)};
  }

 private:
  std::string form_of(const Json& row, const std::string& where) const {
    if (row.contains("doc") && row.contains("request")) return kRequests;
    for (const RowForm& form : forms_) {
      if (std::all_of(form.keys.begin(), form.keys.end(), [&](const std::string& key) { return has(row, key); }))
        return form.name;
    }
    std::vector<std::string> keys, known;
    for (const auto& [key, unused] : row.items()) keys.push_back(key);
    for (const RowForm& form : forms_) known.push_back(cat(form.name, " (", join(form.keys), ")"));
    throw DataError(cat(where, ": fields ", join(keys), " make no known form; known: ", join(known)));
  }

  const RowForm& row_form() const {
    return *std::find_if(forms_.begin(), forms_.end(), [&](const RowForm& form) { return form.name == form_; });
  }

  void begin_file(const std::filesystem::path& file) {
    documents_.clear();
    labels_.clear();
    next_label_ = 0;
    const std::filesystem::path beside = file.parent_path() / (file.stem().string() + "-labels.lst");
    if (!std::filesystem::exists(beside)) return;
    std::istringstream lines(read_text_file(beside));
    for (std::string line; std::getline(lines, line);) labels_.push_back(line);
  }

  void add_row(Json row, const std::string& where) {
    for (const std::string& key : row_form().keys) {
      if (!has(row, key)) throw DataError(cat(where, ": field ", key, " is missing"));
    }
    if (next_label_ < labels_.size() && !row.contains("label")) row["label"] = labels_[next_label_++];
    BenchmarkQuestion question = row_form().read(row, where);
    for (const auto& [key, value] : row.items()) {
      if (value.is_string()) question.fields.emplace(key, value.get<std::string>());
    }
    questions_.push_back(std::move(question));
    places_.push_back(where);
  }

  /// A question's choices stand in rows of their own.
  bool add_request(const Json& row, const std::string& where) {
    for (const char* key : {"doc", "request", "doc_id", "label"}) {
      if (!row.contains(key)) throw DataError(cat(where, ": field ", key, " is missing"));
    }
    const std::int64_t document = index_of(row, "doc_id", where);
    if (document >= kUnconditional) return true;
    const auto [found, is_new] = documents_.try_emplace(document, questions_.size());
    if (is_new) {
      if (full()) return false;
      questions_.push_back(question_of(row["doc"], where));
      questions_.back().answer = row["label"].is_number_integer() ? index_of(row, "label", where) : 0;
      places_.push_back(where);
    }
    BenchmarkQuestion& question = questions_[found->second];
    question.contexts.push_back(text_of(row["request"], "context", where + ": request"));
    question.continuations.push_back(text_of(row["request"], "continuation", where + ": request"));
    const std::size_t count = question.continuations.size();
    if (question.choices.size() < count)
      question.choices.push_back(
          question.continuations.back().substr(question.continuations.back().starts_with(' ') ? 1 : 0));
    question.query = question.contexts.front();
    return true;
  }

  /// Of a request's document: its bare question and choices, where it is of a known form.
  BenchmarkQuestion question_of(const Json& document, const std::string& where) {
    BenchmarkQuestion question;
    if (document.contains("sentence") && document.contains("option1")) {
      question = original_forms().front().read(document, where);
    } else if (document.contains("query") && document.contains("choices")) {
      question.question = bare_question(text_of(document, "query", where + ": doc"));
      question.choices = texts_of(document, "choices", where + ": doc");
    }
    question.continuations.clear();
    for (const auto& [key, value] : document.items()) {
      if (value.is_string()) question.fields.emplace(key, value.get<std::string>());
    }
    return question;
  }

  std::string form_;
  std::int64_t limit_;
  std::vector<RowForm> forms_;
  std::vector<BenchmarkQuestion> questions_;
  std::vector<std::string> places_;
  std::map<std::int64_t, std::size_t> documents_;  ///< of the file being read: number -> question
  std::vector<std::string> labels_;                ///< of the file being read
  std::size_t next_label_ = 0;
};

bool is_csv(const std::filesystem::path& file) { return content_extension(file) == ".csv"; }

bool is_json_lines(const std::filesystem::path& file) { return content_extension(file) == ".jsonl"; }

/// One context for all choices needs no list.
void simplify(BenchmarkQuestion& question) {
  const auto& contexts = question.contexts;
  if (std::all_of(contexts.begin(), contexts.end(),
                  [&](const std::string& context) { return context == contexts.front(); })) {
    if (!contexts.empty()) question.query = contexts.front();
    question.contexts.clear();
  }
}

}  // namespace

const std::vector<BenchmarkForm>& benchmark_forms() {
  static const std::vector<BenchmarkForm> forms = [] {
    std::vector<BenchmarkForm> all = {{kRequests, "doc and request, one row a choice (OLMES)"}};
    for (const RowForm& form : row_forms()) all.push_back({form.name, form.description});
    return all;
  }();
  return forms;
}

std::vector<std::filesystem::path> benchmark_files(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return {path};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.is_regular_file() && (is_csv(entry.path()) || is_json_lines(entry.path()))) files.push_back(entry.path());
  }
  if (files.empty()) throw DataError(cat(path.string(), ": holds no .csv and no .jsonl file"));
  std::sort(files.begin(), files.end());
  return files;
}

BenchmarkFile read_benchmark(const std::filesystem::path& path, const std::string& form, std::int64_t limit) {
  std::vector<std::string> known = {"auto"};
  for (const BenchmarkForm& one : benchmark_forms()) known.push_back(one.name);
  if (std::find(known.begin(), known.end(), form) == known.end())
    throw ConfigError(cat("form: ", unknown_name(form, known)));
  Collector collector(form, limit);
  for (const std::filesystem::path& file : benchmark_files(path)) {
    if (collector.full()) break;
    is_csv(file) ? collector.read_csv(file) : collector.read_json(file);
  }
  BenchmarkFile read = collector.result();
  if (read.questions.empty()) throw DataError(cat(path.string(), ": holds no item"));
  for (BenchmarkQuestion& question : read.questions) simplify(question);
  return read;
}

}  // namespace mla
