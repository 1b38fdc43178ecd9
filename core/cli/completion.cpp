#include <algorithm>
#include <map>

#include "core/base/suggest.h"
#include "core/cli/manual.h"

namespace mla {
namespace {

std::string spaced(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

const std::vector<std::string>* words_of(const std::vector<OptionChoices>& choices, const std::string& command,
                                         const std::string& option) {
  const auto found = std::find_if(choices.begin(), choices.end(), [&](const OptionChoices& one) {
    return one.option == option && (one.command.empty() || one.command == command);
  });
  return found == choices.end() ? nullptr : &found->words;
}

std::vector<std::string> names_of(const ProgramManual& program) {
  std::vector<std::string> names = {"help"};
  for (const CommandManual& command : program.commands) names.push_back(command.name);
  return names;
}

/// "--output -o --json": what begins with a dash.
std::string options_of(const CommandManual& command) {
  std::vector<std::string> all;
  for (const OptionHelp& option : command.options) {
    if (option.argument) continue;
    all.push_back("--" + option.name);
    if (!option.letter.empty()) all.push_back("-" + option.letter);
  }
  return spaced(all);
}

/// The words of the command's first argument, where they are known.
std::string arguments_of(const CommandManual& command, const std::vector<OptionChoices>& choices) {
  for (const OptionHelp& option : command.options) {
    if (!option.argument) continue;
    const auto* words = words_of(choices, command.name, option.name);
    return words == nullptr ? "" : spaced(*words);
  }
  return "";
}

/// A name of a shell function: letters, digits and underscores.
std::string function_of(const ProgramManual& program) {
  std::string name = "_" + program.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string bash(const ProgramManual& program, const std::vector<OptionChoices>& choices) {
  std::string options, arguments, values;
  for (const CommandManual& command : program.commands) {
    options += cat("    ", command.name, ") options=\"", options_of(command), "\" ;;\n");
    const std::string words = arguments_of(command, choices);
    if (!words.empty()) arguments += cat("    ", command.name, ") words=\"", words, "\" ;;\n");
    for (const OptionHelp& option : command.options) {
      const auto* known = option.argument ? nullptr : words_of(choices, command.name, option.name);
      if (known != nullptr)
        values += cat("    ", command.name, ":--", option.name, ") words=\"", spaced(*known), "\" ;;\n");
    }
  }
  const std::string function = function_of(program), commands = spaced(names_of(program));
  return cat(
      "# bash completion of ", program.name, "; `", program.name, " completion bash` prints it.\n", function,
      "() {\n  local word=\"${COMP_WORDS[COMP_CWORD]}\" previous=\"${COMP_WORDS[COMP_CWORD-1]}\" options= words=\n",
      "  local commands=\"", commands, "\"\n  COMPREPLY=()\n", "  if [[ $COMP_CWORD -eq 1 ]]; then\n",
      "    COMPREPLY=($(compgen -W \"$commands --help --version\" -- \"$word\"))\n    return\n  fi\n",
      "  case \"${COMP_WORDS[1]}:$previous\" in\n", values, "  esac\n",
      "  if [[ -n $words ]]; then\n    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n    return\n  fi\n",
      "  case \"${COMP_WORDS[1]}\" in\n", options,
      "    help) [[ $COMP_CWORD -eq 2 ]] && words=\"$commands\" ;;\n  esac\n",
      "  if [[ $word == -* ]]; then\n    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n    return\n  fi\n",
      arguments.empty() ? "" : cat("  case \"${COMP_WORDS[1]}\" in\n", arguments, "  esac\n"),
      "  if [[ -n $words ]]; then\n    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n  else\n",
      "    local IFS=$'\\n'\n    COMPREPLY=($(compgen -f -- \"$word\"))\n  fi\n}\n", "complete -o filenames -F ",
      function, " ", program.name, "\n");
}

/// Text within the quotes of a shell, without what would end them or begin something in it.
std::string quiet(std::string text, const std::string& special) {
  for (char& letter : text) {
    if (special.find(letter) != std::string::npos) letter = ' ';
  }
  return text;
}

std::string zsh_option(const CommandManual& command, const OptionHelp& option,
                       const std::vector<OptionChoices>& choices) {
  const std::string help = quiet(option.help, "'[]:\\\"`$");
  std::string value;
  if (!option.value.empty()) {
    const auto* words = words_of(choices, command.name, option.name);
    value = cat(":", quiet(option.value, "'[]:\\\"`$ "), ":", words ? cat("(", spaced(*words), ")") : "_files");
  }
  std::string text = cat("      '*--", option.name, "[", help, "]", value, "'");
  if (!option.letter.empty()) text += cat(" '*-", option.letter, "[", help, "]", value, "'");
  return text + " \\\n";
}

std::string zsh(const ProgramManual& program, const std::vector<OptionChoices>& choices) {
  std::string commands, cases;
  for (const CommandManual& command : program.commands) {
    commands += cat("    '", command.name, ":", quiet(command.summary, "'\\\"`$"), "'\n");
    cases += cat("    ", command.name, ") _arguments -s : \\\n");
    for (const OptionHelp& option : command.options) {
      if (!option.argument) cases += zsh_option(command, option, choices);
    }
    const std::string words = arguments_of(command, choices);
    cases += cat("      '*::argument:", words.empty() ? "_files" : cat("(", words, ")"), "' ;;\n");
  }
  const std::string function = function_of(program);
  return cat("#compdef ", program.name, "\n# zsh completion of ", program.name, "; `", program.name,
             " completion zsh` prints it.\n", function, "() {\n  local -a commands=(\n    'help:explain a command'\n",
             commands, "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n",
             "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n",
             "    help) _describe command commands ;;\n", cases, "  esac\n}\nif [[ $funcstack[1] == ", function,
             " ]]; then\n  ", function, " \"$@\"\nelse\n  compdef ", function, " ", program.name, "\nfi\n");
}

std::string fish_quoted(const std::string& text) { return cat("'", quiet(text, "'\\"), "'"); }

std::string fish(const ProgramManual& program, const std::vector<OptionChoices>& choices) {
  const std::string begin = cat("complete -c ", program.name);
  std::string text = cat("# fish completion of ", program.name, "; `", program.name, " completion fish` prints it.\n",
                         begin, " -n __fish_use_subcommand -f -a help -d 'explain a command'\n");
  for (const CommandManual& command : program.commands) {
    text += cat(begin, " -n __fish_use_subcommand -f -a ", command.name, " -d ", fish_quoted(command.summary), "\n");
    const std::string within = cat(begin, " -n '__fish_seen_subcommand_from ", command.name, "'");
    const std::string words = arguments_of(command, choices);
    if (!words.empty()) text += cat(within, " -f -a ", fish_quoted(words), "\n");
    for (const OptionHelp& option : command.options) {
      if (option.argument) continue;
      text += cat(within, " -l ", option.name, option.letter.empty() ? "" : " -s " + option.letter);
      const auto* values = words_of(choices, command.name, option.name);
      if (!option.value.empty()) text += values ? cat(" -x -a ", fish_quoted(spaced(*values))) : " -r";
      text += cat(" -d ", fish_quoted(option.help), "\n");
    }
  }
  std::vector<std::string> names = names_of(program);
  return text + cat(begin, " -n '__fish_seen_subcommand_from help' -f -a ", fish_quoted(spaced(names)), "\n");
}

}  // namespace

const std::vector<std::string>& completion_shells() {
  static const std::vector<std::string> shells = {"bash", "zsh", "fish"};
  return shells;
}

std::string completion_script(const std::string& shell, const ProgramManual& program,
                              const std::vector<OptionChoices>& choices) {
  if (shell == "bash") return bash(program, choices);
  if (shell == "zsh") return zsh(program, choices);
  if (shell == "fish") return fish(program, choices);
  throw ConfigError(unknown_name(shell, completion_shells()));
}

}  // namespace mla
