// What an evaluation has done, kept for a run that goes on.
#pragma once

#include <filesystem>
#include <string>

namespace mla {

/// Where evaluations of one stage keep what they have done.
class EvaluationKeeper {
 public:
  /// Keeps nothing.
  EvaluationKeeper() = default;
  /// `folder` empty: nothing is kept. `key` stands for the model where the folder does not.
  EvaluationKeeper(std::filesystem::path folder, std::string stage, std::string key = "");

  bool keeps() const { return !folder_.empty(); }
  const std::string& key() const { return key_; }
  /// A file of this stage for a task; makes the folder.
  std::filesystem::path file(const std::string& task) const;
  /// Removes this stage's files: its evaluation is done.
  void remove() const;

 private:
  std::filesystem::path folder_;
  std::string stage_, key_;
};

}  // namespace mla
