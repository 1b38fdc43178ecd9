#include "core/train/exchange_queue.h"

#include <utility>

#include "core/base/error.h"

namespace mla {

ExchangeQueue::ExchangeQueue(bool beside, std::int64_t most_bytes) : beside_(beside), most_bytes_(most_bytes) {}

void ExchangeQueue::wait_until(const std::function<bool()>& ready) {
  std::unique_lock lock(mutex_);
  while (true) {
    if (failure_) std::rethrow_exception(failure_);
    if (!made_.empty()) {
      const std::function<void()> then = std::move(made_.front());
      made_.pop_front();
      lock.unlock();
      then();
      lock.lock();
    } else if (ready()) {
      return;
    } else {
      changed_.wait(lock);
    }
  }
}

void ExchangeQueue::make_room(std::int64_t bytes) {
  wait_until([&] { return held_ == 0 || held_ + bytes <= most_bytes_; });
}

ExchangeQueue::Ticket ExchangeQueue::post(Exchange exchange) {
  expects(!stopping_, "nothing is exchanged after the end");
  make_room(exchange.bytes);
  if (!beside_) {
    make_here(exchange);
    return ++posted_;
  }
  const std::lock_guard lock(mutex_);
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  held_ += exchange.bytes;
  waiting_.push_back(std::move(exchange));
  changed_.notify_all();
  return ++posted_;
}

void ExchangeQueue::make_here(Exchange& exchange) {
  try {
    exchange.make();
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
  exchange.make = nullptr;
  if (exchange.then) exchange.then();
  ++done_;
}

void ExchangeQueue::wait(Ticket last) {
  wait_until([&] { return done_ >= last; });
}

void ExchangeQueue::wait() { wait(posted_); }

void ExchangeQueue::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    Exchange exchange = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    std::exception_ptr failure;
    try {
      exchange.make();
    } catch (...) {
      failure = std::current_exception();
    }
    exchange.make = nullptr;  // what it alone held goes before others are told that there is room
    lock.lock();
    held_ -= exchange.bytes;
    if (failure) {
      failure_ = failure;
      waiting_.clear();
      made_.clear();
      changed_.notify_all();
      return;
    }
    ++done_;
    if (exchange.then) made_.push_back(std::move(exchange.then));
    changed_.notify_all();
  }
}

void ExchangeQueue::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    waiting_.clear();
    made_.clear();
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace mla
