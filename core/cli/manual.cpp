#include "core/cli/manual.h"

#include <algorithm>

namespace mla {
namespace {

/// As troff reads it: no line begins a request, and what is special is escaped.
std::string troff(const std::string& text) {
  std::string escaped;
  for (const char letter : text) {
    if (letter == '\\') {
      escaped += "\\e";
    } else if (letter == '-') {
      escaped += "\\-";
    } else if ((letter == '.' || letter == '\'') && (escaped.empty() || escaped.back() == '\n')) {
      escaped += cat("\\&", letter);
    } else {
      escaped += letter;
    }
  }
  return escaped;
}

std::string option_head(const OptionHelp& option) {
  if (option.argument) return option.value;
  std::string head = option.letter.empty() ? "" : cat("-", option.letter, ", ");
  head += "--" + option.name;
  if (!option.value.empty()) head += " " + option.value;
  return head;
}

std::string option_help(const OptionHelp& option) {
  return option.help + (option.default_value.empty() ? "" : cat(" (default: ", option.default_value, ")"));
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::toupper(letter)); });
  return text;
}

std::string man_of_program(const ProgramManual& program) {
  std::string text = cat(".TH ", upper(program.name), " 1\n.SH NAME\n", troff(program.name), " \\- ",
                         troff(program.summary), "\n.SH SYNOPSIS\n.B ", troff(program.name),
                         "\nCOMMAND [options]\n.br\n.B ", troff(program.name), "\nhelp COMMAND\n.SH COMMANDS\n");
  for (const CommandManual& command : program.commands) {
    text += cat(".TP\n.BR ", troff(program.name + "-" + command.name), " (1)\n", troff(command.summary), "\n");
  }
  return text + cat(".SH EXIT STATUS\n", troff(program.exit_codes), "\n");
}

std::string man_of_command(const ProgramManual& program, const CommandManual& command) {
  const std::string title = program.name + "-" + command.name;
  std::string text =
      cat(".TH ", upper(title), " 1\n.SH NAME\n", troff(title), " \\- ", troff(command.summary), "\n.SH SYNOPSIS\n.B ",
          troff(program.name + " " + command.name), "\n",
          troff(command.usage.substr(std::min(command.usage.size(), command.usage.find_first_not_of(' ')))), "\n");
  std::string section;
  for (const OptionHelp& option : command.options) {
    if (option.section != section) text += cat(".SH ", upper(option.section), "\n");
    section = option.section;
    text += cat(".TP\n.B ", troff(option_head(option)), "\n", troff(option_help(option)), "\n");
  }
  if (!command.examples.empty()) text += ".SH EXAMPLES\n.nf\n";
  for (const std::string& example : command.examples) text += troff(example) + "\n";
  if (!command.examples.empty()) text += ".fi\n";
  return text + cat(".SH SEE ALSO\n.BR ", troff(program.name), " (1)\n");
}

}  // namespace

std::vector<NamedText> man_pages(const ProgramManual& program) {
  std::vector<NamedText> pages = {{program.name + ".1", man_of_program(program)}};
  for (const CommandManual& command : program.commands)
    pages.push_back({cat(program.name, "-", command.name, ".1"), man_of_command(program, command)});
  return pages;
}

std::string markdown_cell(const std::string& text) {
  std::string cell;
  for (const char letter : text) {
    if (letter == '|' || letter == '<' || letter == '*' || letter == '_') cell += '\\';
    cell += letter == '\n' ? ' ' : letter;
  }
  return cell;
}

std::string markdown_page(const ProgramManual& program) {
  std::string text = cat("# Commands of ", program.name, "\n\n", program.summary, "\n\n", program.exit_codes, "\n\n");
  for (const CommandManual& command : program.commands)
    text += cat("- [", command.name, "](#", command.name, "): ", markdown_cell(command.summary), "\n");
  for (const CommandManual& command : program.commands) {
    text += cat("\n## ", command.name, "\n\n", markdown_cell(command.summary), "\n\n```\n", program.name, " ",
                command.name, command.usage, "\n```\n\n| option | default | |\n|---|---|---|\n");
    for (const OptionHelp& option : command.options) {
      text += cat("| `", option_head(option), "` | ",
                  option.default_value.empty() ? "" : cat("`", option.default_value, "`"), " | ",
                  markdown_cell(option.help), " |\n");
    }
    if (!command.examples.empty()) text += "\n```\n";
    for (const std::string& example : command.examples) text += example + "\n";
    if (!command.examples.empty()) text += "```\n";
  }
  return text;
}

}  // namespace mla
