// Log-likelihoods kept batch by batch, so that an evaluation that was killed goes on where it was.
#pragma once

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/evaluate/continuation_rows.h"

namespace mla {

/// A file to which each finished batch is added as a line, in order. It begins with a key; one of another key is begun
/// anew. A line that was cut short ends what is taken over. Since batches are planned alike each time, a run that goes
/// on gives the same numbers, bit for bit, as one that was never stopped.
class LikelihoodJournal {
 public:
  /// `key` stands for the model, the requests and the options: everything that the numbers depend on.
  /// Throws DataError when the file cannot be written.
  LikelihoodJournal(std::filesystem::path file, const std::string& key);

  /// Fills in the results of the next batch, if an earlier run has left them.
  bool restore(std::span<const ContinuationRow> batch, LikelihoodResult& result);
  /// Keeps the results of the batch just done.
  void keep(std::span<const ContinuationRow> batch, const LikelihoodResult& result);

  /// Batches that an earlier run has left, and how many of them were taken over so far.
  std::int64_t kept() const { return std::ssize(known_); }
  std::int64_t restored() const { return restored_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::vector<std::vector<double>> known_;  ///< of each batch kept its sums, then its flags where there are any
  std::size_t next_ = 0;
  std::int64_t restored_ = 0;  ///< batches taken over
  std::unique_ptr<std::FILE, Close> file_;
};

/// Hash of all tokens of `groups` and of the options: the part of a journal's key that requests make up.
std::string requests_key(const std::vector<ContinuationGroup>& groups, const LikelihoodOptions& options);

}  // namespace mla
