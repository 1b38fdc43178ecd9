// Encoding a stream of documents on several threads, in order and in bounded memory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/text/tokenizer.h"

namespace mla {

/// Documents that are encoded by one thread at a time, and their tokens.
struct EncodedGroup {
  std::vector<std::string> documents;
  std::vector<std::vector<std::int32_t>> tokens;
};

/// Encodes groups of documents on threads of its own. The caller puts groups in and takes them out, encoded, in the
/// same order; how much is under way at a time is the caller's to decide.
class ParallelEncoder {
 public:
  /// `tokenizer` must live as long. `threads` >= 1.
  ParallelEncoder(const Tokenizer& tokenizer, EncodeOptions options, int threads);
  ~ParallelEncoder();
  ParallelEncoder(const ParallelEncoder&) = delete;
  ParallelEncoder& operator=(const ParallelEncoder&) = delete;

  void put(std::vector<std::string> documents);

  /// Waits for the oldest group and gives it out. Throws what its encoding threw. Call it only after as many put().
  EncodedGroup take();

 private:
  struct Task {
    EncodedGroup group;
    std::exception_ptr failure;
    bool done = false;
  };
  void work();

  const Tokenizer& tokenizer_;
  EncodeOptions options_;
  std::mutex mutex_;
  std::condition_variable waiting_changed_, done_changed_;
  std::deque<std::shared_ptr<Task>> all_, waiting_;  // Guarded by mutex_: not yet taken; not yet begun.
  bool stopping_ = false;                            // Guarded by mutex_.
  std::vector<std::jthread> threads_;
};

}  // namespace mla
