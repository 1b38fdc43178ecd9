#include "core/text/parallel_encoder.h"

#include "core/base/error.h"

namespace mla {

ParallelEncoder::ParallelEncoder(const Tokenizer& tokenizer, EncodeOptions options, int threads)
    : tokenizer_(tokenizer), options_(options) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

ParallelEncoder::~ParallelEncoder() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    waiting_.clear();
  }
  waiting_changed_.notify_all();
}

void ParallelEncoder::put(std::vector<std::string> documents) {
  auto task = std::make_shared<Task>();
  task->group.documents = std::move(documents);
  {
    const std::lock_guard lock(mutex_);
    all_.push_back(task);
    waiting_.push_back(std::move(task));
  }
  waiting_changed_.notify_one();
}

EncodedGroup ParallelEncoder::take() {
  std::unique_lock lock(mutex_);
  expects(!all_.empty(), "no group of documents was put in");
  const std::shared_ptr<Task> task = std::move(all_.front());
  all_.pop_front();
  done_changed_.wait(lock, [&] { return task->done; });
  if (task->failure) std::rethrow_exception(task->failure);
  return std::move(task->group);
}

void ParallelEncoder::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    waiting_changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const std::shared_ptr<Task> task = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    try {
      for (const std::string& document : task->group.documents) {
        task->group.tokens.push_back(tokenizer_.encode(document, options_));
      }
    } catch (...) {
      task->failure = std::current_exception();
    }
    lock.lock();
    task->done = true;
    done_changed_.notify_all();
  }
}

}  // namespace mla
