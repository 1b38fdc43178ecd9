// One spelling of the same option, whichever command and program has it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <string>

namespace mla::test {

/// What the commands call a thing, by the other words for it that were in use, or that would come to mind.
inline const std::map<std::string, std::string>& other_spellings() {
  static const std::map<std::string, std::string> spellings = {{"model-path", "model"},
                                                               {"checkpoint", "model"},
                                                               {"weights", "model"},
                                                               {"source-model", "model"},
                                                               {"out", "output"},
                                                               {"output-dir", "output"},
                                                               {"output-file", "output"},
                                                               {"out-dir", "output"},
                                                               {"record", "output"},
                                                               {"save-to", "output"},
                                                               {"limit", "max-…"},
                                                               {"limit-items", "max-items"},
                                                               {"num-items", "max-items"},
                                                               {"max-samples", "max-items"},
                                                               {"max-examples", "max-items"},
                                                               {"limit-documents", "max-documents"},
                                                               {"documents", "separator"},
                                                               {"tokens", "new-tokens"},
                                                               {"max-tokens", "new-tokens"},
                                                               {"max-new-tokens", "new-tokens"},
                                                               {"arithmetic", "dtype"},
                                                               {"precision", "dtype"},
                                                               {"case", "only"},
                                                               {"run", "only"},
                                                               {"select", "only"},
                                                               {"filter", "only"},
                                                               {"vocab", "tokenizer"},
                                                               {"random-seed", "seed"},
                                                               {"batch-size", "batch"},
                                                               {"context-length", "context"},
                                                               {"config-file", "config"},
                                                               {"num-threads", "threads"},
                                                               {"silent", "quiet"}};
  return spellings;
}

/// Fails for options in the help text of `command` that the commands spell otherwise.
inline void expect_one_spelling(const std::string& command, const std::string& help) {
  SCOPED_TRACE(command);
  const std::regex option(R"(\n  (-\w \[ )?--([a-z0-9-]+)( \])?( \S+)?)");
  std::size_t found = 0;
  for (std::sregex_iterator each(help.begin(), help.end(), option), end; each != end; ++each, ++found) {
    const std::string short_form = (*each)[1], name = (*each)[2], value = (*each)[4];
    const auto other = other_spellings().find(name);
    EXPECT_TRUE(other == other_spellings().end()) << "--" << name << ": elsewhere it is --" << other->second;
    if (name == "output") EXPECT_EQ(short_form, "-o [ ");
    if (name == "help") EXPECT_EQ(short_form, "-h [ ");
    if (name == "model") EXPECT_EQ(value, " MODEL");
    if (name == "tokenizer") EXPECT_EQ(value, " PATH");
    if (name == "dtype") EXPECT_EQ(value, " TYPE");
    if (name.starts_with("max-")) EXPECT_EQ(value, " N");
  }
  EXPECT_GT(found, 0U) << "the pattern no longer finds options";
}

}  // namespace mla::test
