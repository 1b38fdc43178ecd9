// How long threads spin while they wait: bounded before OpenMP is loaded, unless the user has said otherwise.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/run_program.h"

namespace mla {
namespace {

/// What OpenMP says of its environment when the program starts; the sanitizers' runtimes are loaded alike.
std::string environment_of(const std::string& assignments) {
  const auto result = test::run_script("unset GOMP_SPINCOUNT OMP_WAIT_POLICY\n" + assignments +
                                       " OMP_DISPLAY_ENV=verbose mlaforge list device");
  EXPECT_EQ(result.exit_code, 0);
  return result.err;
}

TEST(Waiting, ThreadsDoNotSpinForLong) {
  EXPECT_THAT(environment_of(""), testing::HasSubstr("GOMP_SPINCOUNT = '1000'"));
}

TEST(Waiting, IsLeftAsTheUserWantsIt) {
  EXPECT_THAT(environment_of("GOMP_SPINCOUNT=7"), testing::HasSubstr("GOMP_SPINCOUNT = '7'"));
  EXPECT_THAT(environment_of("OMP_WAIT_POLICY=passive"), testing::HasSubstr("GOMP_SPINCOUNT = '0'"));
}

}  // namespace
}  // namespace mla
