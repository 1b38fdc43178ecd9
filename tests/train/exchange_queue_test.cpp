// Exchanges beside the computation: their order, how much is pending, and what becomes of failures.
#include "core/train/exchange_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/train/collective.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using testing::ElementsAre;

TEST(ExchangeQueue, MakesExchangesInTheirOrderInAThreadOfItsOwn) {
  std::vector<int> made, followed;
  std::vector<std::thread::id> makers, followers;
  ExchangeQueue queue(/*beside=*/true, 100);
  for (int i = 0; i < 5; ++i) {
    queue.post({[&, i] {
                  made.push_back(i);
                  makers.push_back(std::this_thread::get_id());
                },
                [&, i] {
                  followed.push_back(i);
                  followers.push_back(std::this_thread::get_id());
                }});
  }
  queue.wait();
  EXPECT_THAT(made, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(followed, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(makers, testing::Each(testing::AllOf(testing::Ne(std::this_thread::get_id()), makers.front())));
  EXPECT_THAT(followers, testing::Each(std::this_thread::get_id()));
}

TEST(ExchangeQueue, WaitsForOneExchangeAndNotForThoseBehindIt) {
  std::promise<void> let;
  bool first = false;
  ExchangeQueue queue(true, 100);
  const ExchangeQueue::Ticket ticket = queue.post({[&] { first = true; }});
  queue.post({[&] { let.get_future().wait(); }});
  queue.wait(ticket);
  EXPECT_TRUE(first);
  let.set_value();
  queue.wait();
}

TEST(ExchangeQueue, MakesThemWhereTheyArePostedWithoutAThread) {
  ExchangeQueue queue(/*beside=*/false, 0);
  std::vector<int> done;
  queue.post({[&] { done.push_back(1); }, [&] { done.push_back(2); }, 1000});
  EXPECT_THAT(done, ElementsAre(1, 2));
  queue.wait();
}

TEST(ExchangeQueue, HoldsNoMoreBytesThanAllowedOrOneExchange) {
  ExchangeQueue queue(true, 100);
  std::atomic<std::int64_t> held = 0, most = 0;
  const auto post = [&](std::int64_t bytes) {
    queue.make_room(bytes);
    most = std::max<std::int64_t>(most, held += bytes);
    queue.post({[&, bytes] {
                  std::this_thread::sleep_for(std::chrono::milliseconds(2));
                  held -= bytes;
                },
                {},
                bytes});
  };
  for (int i = 0; i < 8; ++i) post(40);
  queue.wait();
  EXPECT_LE(most, 80);
  post(500);
  EXPECT_EQ(most, 500);
  post(40);
  EXPECT_EQ(most, 500) << "the large one was gone before there was room";
}

TEST(ExchangeQueue, ThrowsAFailureAtEveryLaterCallAndMakesNothingAfterIt) {
  for (const bool beside : {true, false}) {
    ExchangeQueue queue(beside, 100);
    bool later = false, followed = false;
    const auto fail = [&] {
      queue.post({[] { throw PeerFailed("process 3 has failed"); }, [&] { followed = true; }});
      queue.post({[&] { later = true; }});
      queue.wait();
    };
    EXPECT_EQ(test::message_of<PeerFailed>(fail), "process 3 has failed");
    for (int again = 0; again < 2; ++again) {
      EXPECT_EQ(test::message_of<PeerFailed>([&] { queue.post({[&] { later = true; }}); }), "process 3 has failed");
      EXPECT_EQ(test::message_of<PeerFailed>([&] { queue.make_room(1); }), "process 3 has failed");
      EXPECT_EQ(test::message_of<PeerFailed>([&] { queue.wait(); }), "process 3 has failed");
    }
    EXPECT_FALSE(later);
    EXPECT_FALSE(followed);
  }
}

TEST(ExchangeQueue, ThrowsWhatsoeverAnExchangeThrows) {
  ExchangeQueue queue(true, 100);
  queue.post({[] { throw 7; }});
  EXPECT_THROW(queue.wait(), int);
}

TEST(ExchangeQueue, GoesAfterWhatHasBegunAndForgetsTheRest) {
  std::promise<void> begun, let;
  bool finished = false, followed = false, second = false;
  std::thread later;
  {
    ExchangeQueue queue(true, 100);
    queue.post({[&] {
                  begun.set_value();
                  let.get_future().wait();
                  finished = true;
                },
                [&] { followed = true; }});
    queue.post({[&] { second = true; }});
    begun.get_future().wait();
    later = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      let.set_value();
    });
  }
  later.join();
  EXPECT_TRUE(finished);
  EXPECT_FALSE(followed);
  EXPECT_FALSE(second);
}

TEST(ExchangeQueue, TakesNothingAfterItsEnd) {
  ExchangeQueue queue(true, 100);
  queue.stop();
  queue.stop();
  EXPECT_THROW(queue.post({[] {}}), std::logic_error);
}

}  // namespace
}  // namespace mla
