#include "experiments/tasks/question_files.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/text/benchmark_forms.h"

namespace mla {

std::vector<QuestionFile> question_files(const std::string& items, const std::vector<std::string>& wanted,
                                         const std::string& path) {
  std::vector<QuestionFile> files;
  std::vector<std::string> names;
  for (const std::filesystem::path& file : benchmark_files(items)) {
    const std::string name = file.filename().string();
    files.push_back({name.substr(0, name.find('.')), file});
    names.push_back(files.back().task);
  }
  for (const std::string& name : wanted) {
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw ConfigError(cat(path, ".tasks: ", items, ": ", unknown_name(name, names)));
  }
  std::erase_if(files, [&](const QuestionFile& file) {
    return !wanted.empty() && std::find(wanted.begin(), wanted.end(), file.task) == wanted.end();
  });
  return files;
}

std::vector<std::string> answers_of(const Json& line, const char* field, const std::string& where) {
  std::vector<std::string> answers = texts_of(line, field, where);
  if (answers.empty() || std::find(answers.begin(), answers.end(), "") != answers.end())
    throw DataError(cat(where, ": ", field, ": expected at least one text, none of them empty"));
  return answers;
}

}  // namespace mla
