#include "core/base/suggest.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

const std::vector<std::string> kKnown{"high", "low", "two_norm", "uniform"};

TEST(Suggest, FindsTheLikelyMisspelling) {
  EXPECT_EQ(closest_name("two_nrm", kKnown), "two_norm");
  EXPECT_EQ(closest_name("hihg", kKnown), "high");
  EXPECT_EQ(closest_name("high", kKnown), "high");
  EXPECT_EQ(closest_name("something_else", kKnown), "");
  EXPECT_EQ(closest_name("x", {}), "");
}

TEST(Suggest, WritesTheTailOfAnError) {
  EXPECT_EQ(unknown_name("two_nrm", kKnown),
            "no 'two_nrm'; did you mean 'two_norm'? known: high, low, two_norm, uniform");
  EXPECT_EQ(alternatives("entirely", {"a", "b"}), "known: a, b");
  EXPECT_EQ(unknown_name("x", {}), "no 'x'; known: none");
}

TEST(Suggest, Joins) {
  EXPECT_EQ(join({}), "");
  EXPECT_EQ(join({"a", "b"}), "a, b");
}

TEST(Errors, ExpectsNamesTheCallSite) {
  EXPECT_NO_THROW(expects(true, "never"));
  const std::string message = test::message_of<std::logic_error>([] { expects(false, "two is two"); });
  EXPECT_NE(message.find("suggest_test.cpp:"), std::string::npos);
  EXPECT_NE(message.find(": two is two"), std::string::npos);
}

}  // namespace
}  // namespace mla
