// The options of commands of both programs.
#include "core/cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"

namespace mla {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

using Arguments = std::vector<std::string>;

/// A command's options: one of each kind that the programs' commands have.
struct Given {
  std::vector<std::string> words, commits, rows;
  std::int64_t max_items = 7;
  std::optional<double> share, watch;
  std::filesystem::path output;
  bool dry_run = false, help = false;
  OptionList options;

  Given() {
    options.words(words);
    options.add_several("commits", commits, "HASH HASH", "two of them");
    options.add("row", rows, "KEY", "may be repeated");
    options.add_count("max-items", max_items, 1, "at most");
    options.add("share", share, "SHARE", "of all");
    options.add("output,o", output, "FILE", "where to write");
    options.add_optional_number("watch", watch, 2, "[SECONDS]", "again and again");
    options.flag("dry-run", dry_run, "do nothing");
    options.flag("help,h", help, "show this text");
    options.renamed("limit", "max-items");
    options.renamed("out", "output");
    options.renamed("key", "row");
    options.renamed("no-act", "dry-run");
  }
};

/// The message with which the arguments are refused.
std::string refusal(const Arguments& arguments) {
  Given given;
  try {
    given.options.parse(arguments);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(OptionList, WordsAreTakenFromBetweenOptions) {
  Given given;
  EXPECT_TRUE(given.options.parse({"a", "--dry-run", "b c", "--row", "x", "d", "--row=y", "-o", "out file"}));
  EXPECT_THAT(given.words, ElementsAre("a", "b c", "d"));
  EXPECT_THAT(given.rows, ElementsAre("x", "y"));
  EXPECT_EQ(given.output, "out file");
  EXPECT_TRUE(given.dry_run);
  EXPECT_EQ(given.max_items, 7);
  EXPECT_THAT(given.options.notes(), IsEmpty());
  EXPECT_THAT(given.options.help(), Not(HasSubstr("words")));
}

TEST(OptionList, SeveralValuesReachToTheNextOption) {
  Given given;
  EXPECT_TRUE(given.options.parse({"folder", "--commits", "a", "b", "--dry-run"}));
  EXPECT_THAT(given.words, ElementsAre("folder"));
  EXPECT_THAT(given.commits, ElementsAre("a", "b"));
}

TEST(OptionList, ANumberMayFollowOrNot) {
  const auto watch = [](const Arguments& arguments, const Arguments& words) {
    Given given;
    EXPECT_TRUE(given.options.parse(arguments));
    EXPECT_EQ(given.words, words);
    return given.watch;
  };
  EXPECT_EQ(watch({"a"}, {"a"}), std::nullopt);
  EXPECT_EQ(watch({"--watch", "a"}, {"a"}), 2);
  EXPECT_EQ(watch({"a", "--watch"}, {"a"}), 2);
  EXPECT_EQ(watch({"a", "--watch", "0.5", "b"}, {"a", "b"}), 0.5);
  EXPECT_EQ(watch({"--watch=7", "3"}, {"3"}), 7);
  EXPECT_EQ(watch({"--watch", "--dry-run"}, {}), 2);
  EXPECT_THAT(refusal({"--watch=soon"}), HasSubstr("--watch"));
}

TEST(OptionList, EarlierNamesWorkAndAreToldOnce) {
  Given given;
  EXPECT_TRUE(given.options.parse({"--limit", "3", "--out=x", "--key", "a", "--row", "b", "--key", "c", "--no-act"}));
  EXPECT_EQ(given.max_items, 3);
  EXPECT_EQ(given.output, "x");
  EXPECT_THAT(given.rows, ElementsAre("a", "b", "c"));
  EXPECT_TRUE(given.dry_run);
  EXPECT_THAT(given.options.notes(), ElementsAre("--limit is now --max-items", "--out is now --output",
                                                 "--key is now --row", "--no-act is now --dry-run"));
  for (const char* earlier : {"--limit", "--out ", "--key", "--no-act"})
    EXPECT_THAT(given.options.help(), Not(HasSubstr(earlier)));
  EXPECT_THAT(given.options.names(), ElementsAre("--commits", "--row", "--max-items", "--share", "--output", "--watch",
                                                 "--dry-run", "--help"));
}

TEST(OptionList, EarlierNamesObeyTheRulesOfTodays) {
  EXPECT_EQ(refusal({"--limit", "0"}), "--max-items = 0: must be at least 1");
  EXPECT_EQ(refusal({"--limit", "two"}),
            "the argument ('two') for option '--max-items' is invalid: expected a whole number");
  EXPECT_EQ(refusal({"--limit", "1", "--max-items", "2"}), "option '--max-items' cannot be specified more than once");
  EXPECT_THAT(refusal({"--limit"}), HasSubstr("--limit"));
}

TEST(OptionList, MistakesAreConfigErrorsOfOneLine) {
  EXPECT_THAT(refusal({"--shar", "1"}), HasSubstr("unknown option --shar; did you mean '--share'? known: --commits"));
  EXPECT_THAT(refusal({"--shar", "1"}), Not(HasSubstr("limit"))) << "earlier names are not proposed";
  EXPECT_EQ(refusal({"--share", "much"}), "the argument ('much') for option '--share' is invalid: expected a number");
  EXPECT_EQ(refusal({"--dry-run", "--dry-run"}), "option '--dry-run' cannot be specified more than once");
}

TEST(OptionList, HelpStandsInColumnsWhateverItsCharactersTake) {
  OptionList options;
  std::string plain, dotted;
  options.add("plain", plain, "N", "a text here");
  options.add("dotted", dotted, "N,M,…", "a text there");
  const std::string help = options.help();
  const auto column = [&](const std::string& text) {
    const std::size_t end = help.find(text), begin = help.rfind('\n', end) + 1;
    std::size_t characters = 0;
    for (std::size_t at = begin; at < end; ++at) characters += (static_cast<unsigned char>(help[at]) & 0xC0) != 0x80;
    return characters;
  };
  EXPECT_EQ(column("a text here"), column("a text there")) << help;
}

TEST(OptionList, HelpLeavesTheVariablesAlone) {
  Given given;
  EXPECT_FALSE(given.options.parse({"--limit", "3", "-h"}));
  EXPECT_EQ(given.max_items, 7);
  EXPECT_THAT(given.options.help(), HasSubstr("--max-items N (=7)"));
}

}  // namespace
}  // namespace mla
