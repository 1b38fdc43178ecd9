// What a program says about its commands, for completion, man pages and the reference.
#pragma once

#include <string>
#include <vector>

#include "core/cli/options.h"

namespace mla {

/// One command.
struct CommandManual {
  std::string name, summary;
  std::string usage;                  ///< after the command's name: " MODEL --ids FILE [options]"
  std::vector<OptionHelp> options;    ///< arguments among them
  std::vector<std::string> examples;  ///< complete command lines
};

/// A program with commands.
struct ProgramManual {
  std::string name, summary;
  std::vector<CommandManual> commands;
  std::string exit_codes;  ///< one line
};

/// The words that may stand for an option's value, or for an argument.
struct OptionChoices {
  std::string command;  ///< "": any that has the option
  std::string option;   ///< its name
  std::vector<std::string> words;
};

/// "bash", "zsh" and "fish".
const std::vector<std::string>& completion_shells();

/// A script for `shell` that completes the program's commands, options, and values where `choices` knows them; file
/// names elsewhere. Throws ConfigError for a shell that it does not know.
std::string completion_script(const std::string& shell, const ProgramManual& program,
                              const std::vector<OptionChoices>& choices);

/// A file by its name.
struct NamedText {
  std::string name, text;
};

/// Man pages of section 1: PROGRAM.1 and PROGRAM-COMMAND.1 for each command.
std::vector<NamedText> man_pages(const ProgramManual& program);

/// The commands of a program as one Markdown page.
std::string markdown_page(const ProgramManual& program);

/// `text` within a cell of a Markdown table.
std::string markdown_cell(const std::string& text);

}  // namespace mla
