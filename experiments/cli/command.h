// Subcommands of mlaforge: each registers itself in its own .cpp.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/cli/options.h"
#include "experiments/cli/console.h"

namespace mla {

/// One subcommand. An object serves one call: its members are its options.
class Command {
 public:
  virtual ~Command() = default;

  /// Binds the command's own options; those common to all commands are added after it.
  virtual void declare(OptionList& options) = 0;

  /// Whether several processes started by mpirun share the command's work.
  virtual bool shares_work() const { return false; }

  /// Runs with the options as parsed. Errors are thrown; see core/base/error.h.
  virtual ExitCode run(Console& console) = 0;
};

/// What is known of a command without making one.
struct CommandInfo {
  std::string name;
  std::string summary;                ///< one line, for the overview
  std::vector<std::string> examples;  ///< complete command lines
  std::function<std::unique_ptr<Command>()> make;
};

/// All commands by name. Filled by registrations before main.
std::map<std::string, CommandInfo>& commands();

/// Registers a command while static objects are made:
///
///   const CommandRegistration<Inspect> kInspect("inspect", "geometry, … of a model", {"mlaforge inspect MODEL"});
template <class T>
class CommandRegistration {
 public:
  CommandRegistration(const std::string& name, std::string summary, std::vector<std::string> examples) {
    expects(!commands().contains(name), cat("two commands are named ", name));
    commands()[name] = {name, std::move(summary), std::move(examples), [] { return std::make_unique<T>(); }};
  }
};

/// Options that were one command's and are another's now: `from`, given one of them, runs as `to`, which takes them and
/// all that went with them.
struct MovedOptions {
  std::string from;
  std::vector<std::string> options;  ///< "--cases"
  std::string to;
};

/// All of them. Filled by registrations before main, as commands() is.
std::vector<MovedOptions>& moved_options();

/// Registers moved options while static objects are made.
struct MovedOptionsRegistration {
  explicit MovedOptionsRegistration(MovedOptions moved) { moved_options().push_back(std::move(moved)); }
};

}  // namespace mla
