// Files of questions, one task a file.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "experiments/tasks/question_task.h"

namespace mla {

/// What of such files is asked, and how long prompts may be whose answer would be lost with their middle.
struct NeedleOptions {
  std::vector<std::string> tasks;
  std::int64_t max_tokens = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("tasks", self.tasks,
          "names of files without .jsonl, such as niah_multikey_3_4096 or 200_lines; empty: all of `items`");
    visit(
        "max_tokens", self.max_tokens,
        "of prompt and answer together; 0: the model's positions. What is longer is left out and counted: without its "
        "middle, what is asked for may be gone");
  }

  void validate(const std::string& path) const;
};

/// A file and its name without extension, which is its task's.
struct QuestionFile {
  std::string task;
  std::filesystem::path path;
};

/// The .jsonl and .jsonl.gz files that `items`, a file or a folder, holds, those apart that `wanted` does not name
/// where it names any; in order of name. Throws ConfigError naming `path` for a name that is none of them.
std::vector<QuestionFile> question_files(const std::string& items, const std::vector<std::string>& wanted,
                                         const std::string& path);

/// Adds to `set` what `read(line, where)` makes of the file's lines, of the first `most`; 0: of all. Throws DataError
/// for a file without any.
void read_questions(const QuestionFile& file, std::int64_t most, QuestionSet& set,
                    const std::function<Question(const Json& line, const std::string& where)>& read);

/// What a field of a line lists: at least one text, none of them empty. Throws DataError "<where>: …".
std::vector<std::string> answers_of(const Json& line, const char* field, const std::string& where);

}  // namespace mla
