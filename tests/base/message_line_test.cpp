#include "core/base/message_line.h"

#include <gtest/gtest.h>

namespace mla {
namespace {

TEST(MessageLine, IsOneLineOfALengthThatIsRead) {
  EXPECT_EQ(message_line("a\nb\n\n"), "a b");
  EXPECT_EQ(message_line(""), "");
  const std::string longest(3005, 'x');
  EXPECT_EQ(message_line(longest), longest);
  const std::string cut = message_line("begin" + std::string(100'000, 'x') + "end");
  EXPECT_EQ(cut.size(), 3005U);
  EXPECT_TRUE(cut.starts_with("begin") && cut.ends_with("end") && cut.find("x ... x") != std::string::npos) << cut;
}

}  // namespace
}  // namespace mla
