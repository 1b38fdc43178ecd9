#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "core/text/tokenizer.h"

namespace mla {

std::vector<std::vector<std::int32_t>> encode_batch(const Tokenizer& tokenizer, std::span<const std::string> texts,
                                                    EncodeOptions options, int threads) {
  std::vector<std::vector<std::int32_t>> rows(texts.size());
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      for (std::size_t i = next++; i < texts.size(); i = next++) rows[i] = tokenizer.encode(texts[i], options);
    } catch (...) {
      next = texts.size();
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < threads && static_cast<std::size_t>(i) < texts.size(); ++i) helpers.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);
  return rows;
}

}  // namespace mla
