#include "experiments/tasks/answer_journal.h"

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace mla {

std::vector<bool> AnswerJournal::restore(std::vector<std::string>& answers) {
  std::vector<bool> answered(answers.size());
  kept_ = Json(key_).dump() + "\n";
  if (std::filesystem::exists(file_)) {
    const std::string text = read_file(file_);
    const std::size_t first = text.find('\n');
    if (text.substr(0, first) + "\n" == kept_) take_over(text.substr(first + 1), answers, answered);
  }
  return answered;
}

void AnswerJournal::keep(const std::vector<std::size_t>& indices, const std::vector<std::string>& answers) {
  for (std::size_t i = 0; i < indices.size(); ++i) kept_ += Json::array({indices[i], answers[i]}).dump() + "\n";
  write_file_atomically(file_, kept_);
}

void AnswerJournal::take_over(const std::string& lines, std::vector<std::string>& answers,
                              std::vector<bool>& answered) {
  for (std::size_t begin = 0, end; (end = lines.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const Json line = parse_json(lines.substr(begin, end - begin), file_.string());
    if (!line.is_array() || line.size() != 2 || !line[0].is_number_unsigned() || !line[1].is_string())
      throw DataError(cat(file_.string(), ": expected [number, answer], found ", brief(line), "; remove the file"));
    const auto index = line[0].get<std::size_t>();
    if (index >= answers.size()) continue;
    answers[index] = line[1].get<std::string>();
    answered[index] = true;
    kept_ += lines.substr(begin, end + 1 - begin);
  }
}

}  // namespace mla
