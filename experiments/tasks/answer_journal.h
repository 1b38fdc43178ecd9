// Answers that an evaluation has got, kept for a run that goes on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mla {

/// Answers kept one a line under the key of everything they depend on.
class AnswerJournal {
 public:
  AnswerJournal(std::filesystem::path file, std::string key) : file_(std::move(file)), key_(std::move(key)) {}

  /// Fills in what an earlier run has answered; tells which. Throws DataError for a damaged file.
  std::vector<bool> restore(std::vector<std::string>& answers);
  /// Keeps the answers to these questions, too.
  void keep(const std::vector<std::size_t>& indices, const std::vector<std::string>& answers);

 private:
  void take_over(const std::string& lines, std::vector<std::string>& answers, std::vector<bool>& answered);

  std::filesystem::path file_;
  std::string key_, kept_;
};

}  // namespace mla
