#include "core/cli/manual.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// A program with a command that has options of every sort.
ProgramManual program() {
  std::string model, rope = "high", config;
  std::filesystem::path output;
  bool json = false;
  std::int64_t count = 3;
  OptionList options;
  options.argument("config", config, "CONFIG", "a file");
  options.require("model", model, "MODEL", "a model's folder | file");
  options.add("rope", rope, "NAME", "it's a \"strategy\" [one]");
  options.section("more options");
  options.add("output,o", output, "FILE", "where it goes");
  options.add_count("count", count, 1, "a count");
  options.flag("json", json, "JSON");
  return {"prog-x",
          "does things",
          {{"run", "runs it", options.usage(), options.described(), {"prog-x run c.json --model m"}},
           {"show", "shows 'it'", " [options]", {}, {}}},
          "exit codes: 0 done"};
}

const std::vector<OptionChoices> kChoices = {{"", "rope", {"high", "low", "two_norm"}}, {"show", "kind", {"a"}}};

TEST(OptionHelp, SaysAllThatWasDeclared) {
  const std::vector<OptionHelp> options = program().commands[0].options;
  ASSERT_EQ(options.size(), 6u);
  EXPECT_TRUE(options[0].argument);
  EXPECT_EQ(options[0].value, "CONFIG");
  EXPECT_FALSE(options[1].argument);
  EXPECT_EQ(options[2].default_value, "high");
  EXPECT_EQ(options[2].section, "options");
  EXPECT_EQ(options[3].letter, "o");
  EXPECT_EQ(options[3].section, "more options");
  EXPECT_EQ(options[4].value, "N");
  EXPECT_EQ(options[4].default_value, "3");
  EXPECT_EQ(options[5].value, "");
}

/// What bash offers for the last of `words`, which make a command line.
std::vector<std::string> offered(const std::string& words) {
  const TemporaryFolder folder;
  folder.write("notes one.txt", "");
  const auto script = folder.write("completion.bash", completion_script("bash", program(), kChoices));
  const auto out = folder / "out";
  const auto test = folder.write(
      "test.bash", cat("cd ", folder.path().string(), "\nsource ", script.string(), "\nCOMP_WORDS=(", words,
                       ")\nCOMP_CWORD=$((${#COMP_WORDS[@]}-1))\n",
                       "_prog_x\nfor reply in \"${COMPREPLY[@]}\"; do echo \"$reply\"; done >", out.string(), "\n"));
  EXPECT_EQ(std::system(("bash -eu " + test.string()).c_str()), 0);
  std::vector<std::string> lines;
  std::istringstream text(read_file(out));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

TEST(Completion, OfBashOffersCommandsOptionsValuesAndFiles) {
  EXPECT_THAT(offered("prog-x ''"), ElementsAre("help", "run", "show", "--help", "--version"));
  EXPECT_THAT(offered("prog-x r"), ElementsAre("run"));
  EXPECT_THAT(offered("prog-x run --o"), ElementsAre("--output"));
  EXPECT_THAT(offered("prog-x run -"), ElementsAre("--model", "--rope", "--output", "-o", "--count", "--json"));
  EXPECT_THAT(offered("prog-x run --rope ''"), ElementsAre("high", "low", "two_norm"));
  EXPECT_THAT(offered("prog-x run --model m --rope t"), ElementsAre("two_norm"));
  EXPECT_THAT(offered("prog-x run notes"), ElementsAre("notes one.txt"));
  EXPECT_THAT(offered("prog-x help s"), ElementsAre("show"));
}

TEST(Completion, OfTheOtherShellsIsWellFormed) {
  const std::string zsh = completion_script("zsh", program(), kChoices),
                    fish = completion_script("fish", program(), kChoices);
  EXPECT_THAT(zsh, StartsWith("#compdef prog-x\n"));
  EXPECT_THAT(zsh, HasSubstr("'*--rope[it s a  strategy   one ]:NAME:(high low two_norm)'"));
  EXPECT_THAT(
      fish,
      HasSubstr("complete -c prog-x -n '__fish_seen_subcommand_from run' -l output -s o -r -d 'where it goes'\n"));
  EXPECT_THAT(fish, HasSubstr("-l rope -x -a 'high low two_norm'"));
  const TemporaryFolder folder;
  for (const auto& [shell, script] : {std::pair{"zsh", zsh}, std::pair{"fish", fish}}) {
    if (std::system(cat("command -v ", shell, " >/dev/null").c_str()) != 0) continue;  // checked where it is installed
    const auto file = folder.write(shell, script);
    EXPECT_EQ(std::system(cat(shell, " -n ", file.string()).c_str()), 0) << shell;
  }
  EXPECT_THAT(test::message_of<ConfigError>([] { completion_script("bsh", {}, {}); }),
              HasSubstr("did you mean 'bash'?"));
}

TEST(Manual, HasAPageForEachCommand) {
  const std::vector<NamedText> pages = man_pages(program());
  ASSERT_EQ(pages.size(), 3u);
  EXPECT_EQ(pages[0].name, "prog-x.1");
  EXPECT_EQ(pages[1].name, "prog-x-run.1");
  EXPECT_THAT(pages[0].text, HasSubstr(".BR prog\\-x\\-run (1)\nruns it\n"));
  EXPECT_THAT(pages[1].text, HasSubstr(".SH MORE OPTIONS\n.TP\n.B \\-o, \\-\\-output FILE\nwhere it goes\n"));
  EXPECT_THAT(pages[1].text, HasSubstr("(default: high)"));
  EXPECT_THAT(pages[1].text, HasSubstr("prog\\-x run c.json \\-\\-model m"));
}

TEST(Manual, IsMarkdownWithoutBrokenTables) {
  const std::string page = markdown_page(program());
  EXPECT_THAT(page, HasSubstr("| `--model MODEL` |  | a model's folder \\| file |\n"));
  EXPECT_THAT(page, HasSubstr("| `CONFIG` |  | a file |\n"));
  EXPECT_THAT(page, HasSubstr("```\nprog-x run CONFIG --model MODEL [options]\n```"));
  EXPECT_THAT(page, Not(HasSubstr("\n\n\n")));
}

}  // namespace
}  // namespace mla
