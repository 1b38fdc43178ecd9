#include "core/base/interrupt.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

TEST(Interrupt, TheFirstSignalSetsTheFlagAndTheSecondKills) {
  const auto run = [](int first, int second) {
    install_interrupt_handler();
    if (interrupted()) std::_Exit(1);
    check_interrupt();
    std::raise(first);
    if (!interrupted()) std::_Exit(2);
    const std::string message = test::message_of<Interrupted>([] { check_interrupt(); });
    if (message != (first == SIGINT ? "interrupted (SIGINT)" : "terminated (SIGTERM)")) std::_Exit(3);
    std::raise(second);
    std::_Exit(4);
  };
  EXPECT_EXIT(run(SIGINT, SIGINT), testing::KilledBySignal(SIGINT), "");
  EXPECT_EXIT(run(SIGTERM, SIGINT), testing::KilledBySignal(SIGINT), "");
  EXPECT_EXIT(run(SIGINT, SIGTERM), testing::KilledBySignal(SIGTERM), "");
}

TEST(Interrupt, WorkThatIsTakenOverIsGivenUpAndOtherWorkGoesOn) {
  std::atomic<bool> taken = false;
  {
    const WatchTakeover watch(taken);
    EXPECT_NO_THROW(check_interrupt());
    taken = true;
    EXPECT_TRUE(taken_over());
    EXPECT_THROW(check_interrupt(), TakenOver);
  }
  EXPECT_FALSE(taken_over());
  EXPECT_NO_THROW(check_interrupt());
}

}  // namespace
}  // namespace mla
