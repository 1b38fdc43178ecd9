// The frame around all commands: finding them, help, options, exit codes.
#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>

#include "core/base/error.h"
#include "experiments/cli/command.h"
#include "tests/support/option_spelling.h"
#include "tests/support/run_program.h"

namespace mla {
namespace {

using test::run_program;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

/// Throws what it is told to, and shows what it was given.
class Probe final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("first", first_, "FIRST", "an argument");
    options.argument("rest", rest_, "REST", "more of them");
    options.add("throw", what_, "KIND", "what to throw");
    options.add("path", path_, "PATH", "a path");
    options.add("number", number_, "X", "a number");
    options.add_count("count", count_, 1, "a count");
    options.add_count("maybe", maybe_, 0, "an optional count");
  }

  ExitCode run(Console& console) override {
    if (what_ == "config") throw ConfigError("a.b: wrong");
    if (what_ == "data") throw DataError("file: broken");
    if (what_ == "interrupted") throw Interrupted("stopped");
    if (what_ == "promise") expects(false, "kept");
    if (what_ == "lines") throw DataError("two\nlines\n");
    if (what_ == "file") std::filesystem::create_directory("/proc/no/such");
    if (what_ == "torch") TORCH_CHECK(false, "first line\nsecond line");
    if (what_ == "memory") throw std::bad_alloc();
    if (what_ == "cells") return ExitCode::kCellsFailed;
    console.text() << "for people\n";
    console.report({{"first", first_},
                    {"rest", rest_.value_or("none")},
                    {"path", path_.string()},
                    {"number", number_},
                    {"count", count_},
                    {"maybe", maybe_ ? Json(*maybe_) : Json()},
                    {"threads", console.threads}});
    return ExitCode::kDone;
  }

 private:
  std::string first_, what_;
  std::optional<std::string> rest_;
  std::filesystem::path path_;
  double number_ = 0.7;
  std::int64_t count_ = 3;
  std::optional<std::int64_t> maybe_;
};

const CommandRegistration<Probe> kProbe("probe", "used by this test", {"mlaforge probe x"});

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& [name, info] : commands()) all.push_back(name);
  return all;
}

TEST(CommandLine, ListsEveryCommand) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{{"--help"}, {"-h"}, {"help"}}) {
    const auto result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.err, "");
    for (const auto& [name, info] : commands())
      EXPECT_THAT(result.out, ContainsRegex("\n  " + name + " +" + info.summary + "\n"));
  }
}

TEST(CommandLine, HelpOfACommandIsItsHelp) {
  for (const auto& [name, info] : commands()) {
    const auto asked = run_program({"help", name});
    EXPECT_EQ(asked.exit_code, 0);
    EXPECT_EQ(asked.out, run_program({name, "--help"}).out);
    EXPECT_EQ(asked.err, "");
  }
  const auto unknown = run_program({"help", "rnu"}), two = run_program({"help", "run", "check"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, StartsWith("mlaforge: no command 'rnu'; did you mean 'run'?"));
  EXPECT_EQ(two.exit_code, 2);
  EXPECT_EQ(two.err, "mlaforge: help: expected one COMMAND, found also 'check'\n");
}

TEST(CommandLine, HasTheCommandsThatTheIssueNames) {
  for (const char* name :
       {"run", "check", "list", "show", "inspect", "convert", "evaluate", "score", "tokenize", "generate"}) {
    EXPECT_TRUE(commands().contains(name)) << name;
  }
}

TEST(CommandLine, StatesItsVersion) {
  const auto result = run_program({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(StartsWith("mlaforge "), HasSubstr("LibTorch ")));
}

class CommandHelp : public testing::TestWithParam<std::string> {};

TEST_P(CommandHelp, ShowsUsageOptionsAndAnExample) {
  for (const char* flag : {"--help", "-h"}) {
    const auto result = run_program({GetParam(), flag});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_THAT(result.out,
                AllOf(HasSubstr("usage: mlaforge " + GetParam()), HasSubstr("--json"), HasSubstr("--threads")));
    EXPECT_THAT(result.out, HasSubstr("\nExample:\n  "));
  }
  EXPECT_FALSE(commands().at(GetParam()).examples.empty());
}

TEST_P(CommandHelp, SpellsOptionsAsTheOthersDo) {
  test::expect_one_spelling("mlaforge " + GetParam(), run_program({GetParam(), "--help"}).out);
}

INSTANTIATE_TEST_SUITE_P(All, CommandHelp, testing::ValuesIn(names()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(CommandLine, HelpShowsDefaults) {
  EXPECT_THAT(run_program({"probe", "--help"}).out, AllOf(HasSubstr("--number X (=0.7)"), HasSubstr("--count N (=3)")));
}

TEST(CommandLine, ParsesOptionsOfEveryKind) {
  const auto defaults = run_program({"probe", "a", "--json"}).json();
  EXPECT_EQ(defaults, Json({{"first", "a"},
                            {"rest", "none"},
                            {"path", ""},
                            {"number", 0.7},
                            {"count", 3},
                            {"maybe", nullptr},
                            {"threads", 0}}));
  const auto given = run_program({"probe", "a", "b", "--path", "/a folder/b", "--number=-2e3", "--count", "5",
                                  "--maybe", "0", "--threads", "1", "--json"})
                         .json();
  EXPECT_EQ(given, Json({{"first", "a"},
                         {"rest", "b"},
                         {"path", "/a folder/b"},
                         {"number", -2000.0},
                         {"count", 5},
                         {"maybe", 0},
                         {"threads", 1}}));
}

/// Every option that had another name, with a value: command, earlier name, today's.
TEST(CommandLine, EarlierNamesOfOptionsAreToldInOneLine) {
  const std::vector<std::array<std::string, 3>> earlier = {{"attribute", "record", "output"},
                                                           {"codec", "select", "only"},
                                                           {"conformance", "case", "only"},
                                                           {"conformance", "run", "only"},
                                                           {"conformance", "arithmetic", "dtype"},
                                                           {"distance", "documents", "separator"},
                                                           {"distance", "limit-documents", "max-documents"},
                                                           {"evaluate", "documents", "separator"},
                                                           {"evaluate", "limit-documents", "max-documents"},
                                                           {"evaluate", "limit", "max-items"},
                                                           {"generate", "tokens", "new-tokens"},
                                                           {"requests", "limit", "max-items"},
                                                           {"run", "limit", "max-cells"}};
  const std::map<std::string, std::vector<std::string>> needed = {
      {"attribute", {"/no/config"}},
      {"evaluate", {"--model", "/no/model"}},
      {"run", {"/no/config"}},
      {"generate", {"--model", "/no/model", "--prompt", "a"}},
      {"requests", {"/no/file", "--tokenizer", "/no/tokenizer"}}};
  for (const auto& [command, before, now] : earlier) {
    std::vector<std::string> arguments = {command, "--" + before, "3"};
    if (const auto found = needed.find(command); found != needed.end())
      arguments.insert(arguments.end(), found->second.begin(), found->second.end());
    const auto result = run_program(arguments);
    EXPECT_THAT(result.exit_code, testing::AnyOf(2, 3)) << command;  // nothing of it is there
    EXPECT_THAT(result.err, StartsWith(cat("mlaforge ", command, ": --", before, " is now --", now, "\n")));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 2) << result.err;
    EXPECT_THAT(run_program({command, "--help"}).out, testing::Not(HasSubstr("--" + before + " ")));
  }
}

TEST(CommandLine, KeepsStdoutForJson) {
  const auto people = run_program({"probe", "a"}), programs = run_program({"probe", "a", "--json"});
  EXPECT_EQ(people.out, "for people\n");
  EXPECT_EQ(people.err, "");
  EXPECT_EQ(programs.err, "for people\n");
  EXPECT_EQ(std::count(programs.out.begin(), programs.out.end(), '\n'), 1);
  EXPECT_EQ(run_program({"probe", "a", "--json", "--quiet"}).err, "");
}

struct Failing {
  std::vector<std::string> arguments;
  int exit_code;
  std::string message;
};

class Failures : public testing::TestWithParam<Failing> {};

TEST_P(Failures, EndInOneLineAndTheirExitCode) {
  const auto result = run_program(GetParam().arguments);
  EXPECT_EQ(result.exit_code, GetParam().exit_code);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  EXPECT_THAT(result.err, StartsWith(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Errors, Failures,
    testing::Values(Failing{{"probe", "x", "--throw", "config"}, 2, "mlaforge probe: a.b: wrong\n"},
                    Failing{{"probe", "x", "--throw", "data"}, 3, "mlaforge probe: file: broken\n"},
                    Failing{{"probe", "x", "--throw", "file"}, 3, "mlaforge probe: "},
                    Failing{{"probe", "x", "--throw", "interrupted"}, 130, "mlaforge probe: stopped\n"},
                    Failing{{"probe", "x", "--throw", "promise"}, 4, "mlaforge probe: "},
                    Failing{{"probe", "x", "--throw", "lines"}, 3, "mlaforge probe: two lines\n"},
                    Failing{{"probe", "x", "--throw", "torch"}, 4, "mlaforge probe: first line\n"},
                    Failing{{"probe", "x", "--throw", "memory"}, 4, "mlaforge probe: out of memory\n"}));

INSTANTIATE_TEST_SUITE_P(
    CommandLine, Failures,
    testing::Values(
        Failing{{}, 2, "mlaforge: no command; "},
        Failing{{"inspct"}, 2, "mlaforge: no command 'inspct'; did you mean 'inspect'? known: "},
        Failing{{"--jsn"}, 2, "mlaforge: expected a command, found --jsn; known: "},
        Failing{{"probe"}, 2, "mlaforge probe: FIRST is missing; expected: FIRST [REST] [options]\n"},
        Failing{{"score"}, 2, "mlaforge score: option --"},
        Failing{{"probe", "x", "y", "z"}, 2, "mlaforge probe: too many arguments; expected: FIRST [REST] [options]\n"},
        Failing{{"probe", "x", "--cuont", "1"},
                2,
                "mlaforge probe: unknown option --cuont; did you mean '--count'? known: "},
        Failing{{"probe", "x", "--coun", "1"}, 2, "mlaforge probe: unknown option --coun; "},
        Failing{{"probe", "x", "--count"}, 2, "mlaforge probe: "},
        Failing{{"probe", "x", "--count", "two"},
                2,
                "mlaforge probe: the argument ('two') for option '--count' is invalid: expected a whole number\n"},
        Failing{{"probe", "x", "--count", "1", "--count", "2"},
                2,
                "mlaforge probe: option '--count' cannot be specified more than once\n"},
        Failing{{"probe", "x", "--count", "0"}, 2, "mlaforge probe: --count = 0: must be at least 1\n"},
        Failing{{"probe", "x", "--maybe", "-1"}, 2, "mlaforge probe: --maybe = -1: must be at least 0\n"},
        Failing{{"probe", "x", "--threads", "-1"}, 2, "mlaforge probe: --threads = -1: must be at least 0\n"},
        Failing{{"list", "ropes"}, 2, "mlaforge list: no 'ropes'; did you mean 'rope'? known: "}));

TEST(CommandLine, PassesAPartialFailureOn) { EXPECT_EQ(run_program({"probe", "x", "--throw", "cells"}).exit_code, 1); }

TEST(Program, ReturnsTheExitCodes) {
  EXPECT_EQ(test::run_script("mlaforge --version").exit_code, 0);
  EXPECT_EQ(test::run_script("mlaforge inspect /no/such/model").exit_code, 3);
  const auto unknown = test::run_script("mlaforge inspect --jsn");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_EQ(unknown.out, "");
  EXPECT_EQ(std::count(unknown.err.begin(), unknown.err.end(), '\n'), 1);
}

TEST(Program, DoesNotMindAReaderThatLeaves) {
  // The pipe's reader is gone before the program writes; its exit code goes to stderr, which is captured.
  const auto result = test::run_script("{ mlaforge list; echo code $? >&2; } | true");
  EXPECT_EQ(result.err, "code 0\n");
}

TEST(Program, ReportsOutputThatCannotBeWritten) {
  const auto result = test::run_script("mlaforge list > /dev/full");
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.err, "mlaforge: standard output cannot be written\n");
}

}  // namespace
}  // namespace mla
