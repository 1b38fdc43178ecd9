// Options with several values.
#include "experiments/cli/comma_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using testing::ElementsAre;

TEST(CommaList, TakesOneValueOrSeveral) {
  EXPECT_THAT(comma_list("mkla", "--method", "a name"), ElementsAre("mkla"));
  EXPECT_THAT(comma_list("fold_qk_norm,mkla", "--method", "a name"), ElementsAre("fold_qk_norm", "mkla"));
  EXPECT_THAT(whole_numbers("8", "--ranks", 1), ElementsAre(8));
  EXPECT_THAT(whole_numbers("16,1,4", "--ranks", 1, 16), ElementsAre(16, 1, 4));
}

TEST(CommaList, SaysWhatItExpectsInstead) {
  const auto refused = [](const std::string& text) {
    return test::message_of<ConfigError>([&] { whole_numbers(text, "--ranks", 1, 99); });
  };
  for (const char* text : {"x", "1,", ",1", "1,,2", "0", "-1", "1.5", "1 ", "100", "99999999999999999999", "1;2"}) {
    EXPECT_EQ(refused(text),
              cat("--ranks ", text, ": expected a whole number from 1 to 99, or several joined by commas"));
  }
  EXPECT_EQ(refused(""), "--ranks '': expected a whole number from 1 to 99, or several joined by commas");
  EXPECT_EQ(test::message_of<ConfigError>([] { whole_numbers("0", "--d-kv", 1); }),
            "--d-kv 0: expected a whole number from 1 on, or several joined by commas");
  EXPECT_EQ(test::message_of<ConfigError>([] { comma_list("a,", "--method", "the name of a pass"); }),
            "--method a,: expected the name of a pass, or several joined by commas");
}

}  // namespace
}  // namespace mla
