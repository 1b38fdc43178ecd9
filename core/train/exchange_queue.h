// Exchanges between processes that go on beside what is computed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace mla {

/// Makes exchanges in a thread of its own, one after the other in the order in which they are posted, which must be the
/// same in all processes. While any is pending, nobody else may call the Collective that they use. The first that
/// throws is the last that is made: its exception is thrown by every later call of those that post and wait. They are
/// one thread at a time.
class ExchangeQueue {
 public:
  struct Exchange {
    std::function<void()> make;    ///< the calls of the Collective, and nothing that takes several processors
    std::function<void()> then{};  ///< what becomes of the result: run by a later call of post() or wait()
    std::int64_t bytes = 0;        ///< what is held until it is made
  };
  using Ticket = std::int64_t;

  /// At most `most_bytes` are held by pending exchanges, or what one of them holds. Without `beside` there is no
  /// thread: each is made where it is posted.
  ExchangeQueue(bool beside, std::int64_t most_bytes);
  ~ExchangeQueue() { stop(); }
  ExchangeQueue(const ExchangeQueue&) = delete;
  ExchangeQueue& operator=(const ExchangeQueue&) = delete;

  bool beside() const { return beside_; }

  /// Waits until an exchange of so many bytes can be posted without waiting.
  void make_room(std::int64_t bytes);
  Ticket post(Exchange exchange);
  /// Until that exchange is made and all that follows from it done; or all of them.
  void wait(Ticket last);
  void wait();

  /// Forgets what has not begun and waits for what has, which ends as soon as all processes take part in it or one of
  /// them says that it has failed. Nothing can be posted afterwards. For those whose memory exchanges use.
  void stop() noexcept;

 private:
  void work();
  void make_here(Exchange& exchange);
  /// Meanwhile finishes what is made; throws the failure.
  void wait_until(const std::function<bool()>& ready);

  const bool beside_;
  const std::int64_t most_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Exchange> waiting_;
  std::deque<std::function<void()>> made_;  ///< what is to follow
  std::int64_t held_ = 0;                   ///< bytes of those that are waiting or being made
  Ticket posted_ = 0, done_ = 0;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::thread thread_;  ///< from the first post on
};

}  // namespace mla
