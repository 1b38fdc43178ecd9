// Files of questions, one task a file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/tasks/question_task.h"

namespace mla {

/// A file and its name without extension, which is its task's.
struct QuestionFile {
  std::string task;
  std::filesystem::path path;
};

/// The .jsonl and .jsonl.gz files that `items`, a file or a folder, holds, those apart that `wanted` does not name
/// where it names any; in order of name. Throws ConfigError naming `path` for a name that is none of them.
std::vector<QuestionFile> question_files(const std::string& items, const std::vector<std::string>& wanted,
                                         const std::string& path);

/// What a field of a line lists: at least one text, none of them empty. Throws DataError "<where>: …".
std::vector<std::string> answers_of(const Json& line, const char* field, const std::string& where);

}  // namespace mla
