// The options of one command: bound to typed variables, parsed and shown by Boost.Program_options.
#pragma once

#include <boost/program_options.hpp>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "core/base/error.h"

namespace mla {

namespace detail {
template <class T>
constexpr bool kIsList = false;
template <class T>
constexpr bool kIsList<std::vector<T>> = true;
template <class T>
constexpr bool kMayLack = false;
template <class T>
constexpr bool kMayLack<std::optional<T>> = true;
}  // namespace detail

/// One option as help, completion and manuals show it.
struct OptionHelp {
  std::string section, name;
  std::string letter;  ///< the short form, or ""
  std::string value;   ///< what stands for the value, "" for a flag
  std::string default_value, help;
  bool argument = false;  ///< given without its name in front
};

/// Collects the options of one command of a program, each bound to a variable that holds its default: strings, paths,
/// numbers, std::optional of these (absent unless given) and std::vector of these (the option may be repeated). parse()
/// writes the variables.
class OptionList {
 public:
  OptionList() { section("options"); }

  /// `--name VALUE`. `value` stands for the value in help, for example "N"; `name` may be "output,o" for a short form.
  template <class T>
  void add(const std::string& name, T& target, const std::string& value, const std::string& help) {
    declare(name, bind(target, value), help);
  }

  /// A whole number with a smallest permitted value.
  void add_count(const std::string& name, std::int64_t& target, std::int64_t least, const std::string& help);
  void add_count(const std::string& name, std::optional<std::int64_t>& target, std::int64_t least,
                 const std::string& help);

  /// `--name VALUE VALUE…`, up to the next option.
  void add_several(const std::string& name, std::vector<std::string>& target, const std::string& value,
                   const std::string& help);

  /// `--name` or `--name NUMBER`: `lone` where no number follows.
  void add_optional_number(const std::string& name, std::optional<double>& target, double lone,
                           const std::string& value, const std::string& help);

  /// `--name` without a value.
  void flag(const std::string& name, bool& target, const std::string& help);

  /// `--name VALUE` that must be given.
  template <class T>
  void require(const std::string& name, T& target, const std::string& value, const std::string& help) {
    declare(name, bind(target, value)->required(), help);
    usage_ += cat(" --", name.substr(0, name.find(',')), " ", value);
  }

  /// An argument without a name in front, in the order of these calls; `--name` works too. One bound to std::optional
  /// may be left out, one bound to std::vector takes all that are left.
  template <class T>
  void argument(const std::string& name, T& target, const std::string& value, const std::string& help) {
    constexpr bool may_lack = detail::kMayLack<T>;
    auto* semantic = bind(target, value);
    declare(name, may_lack ? semantic : semantic->required(), help);
    positions_.add(name.c_str(), detail::kIsList<T> ? -1 : 1);
    arguments_ += may_lack ? cat(" [", value, "]") : cat(" ", value);
  }

  /// All arguments without a name in front, for commands whose own text says what they are; not in help().
  void words(std::vector<std::string>& target);

  /// `--before` is what `--name`, declared already, was called earlier: it works on, and notes() says how it is
  /// written.
  void renamed(const std::string& before, const std::string& name);

  /// Options declared from here on stand under `title` in the help text.
  void section(const std::string& title);

  /// Parses `arguments` and writes the variables. Returns false, and writes nothing, when --help is among them.
  /// Throws ConfigError for an option that nobody declared, and for values that do not fit.
  bool parse(const std::vector<std::string>& arguments);

  /// After parse(): "--limit is now --max-items" for each earlier name among the arguments.
  const std::vector<std::string>& notes() const { return notes_; }

  /// " MODEL --ids FILE [options]": what follows the command's name.
  std::string usage() const { return arguments_ + usage_ + " [options]"; }
  /// All options with their defaults.
  std::string help() const;
  /// All options that are shown, in order.
  std::vector<OptionHelp> described() const;
  /// "--model", … of all options that are shown.
  std::vector<std::string> names() const;

 private:
  template <class T>
  static boost::program_options::typed_value<T>* bind(T& target, const std::string& value) {
    auto* semantic = boost::program_options::value<T>(&target)->value_name(value);
    if constexpr (detail::kIsList<T>) {
      semantic->composing();
    } else if constexpr (std::is_arithmetic_v<T>) {
      semantic->default_value(target, cat(target));
    } else if (!target.empty()) {
      semantic->default_value(target);
    }
    return semantic;
  }
  template <class T>
  static boost::program_options::typed_value<T>* bind(std::optional<T>& target, const std::string& value) {
    return boost::program_options::value<T>()->value_name(value)->notifier([&](const T& given) { target = given; });
  }
  // The stream operator of paths would split them at white space.
  static boost::program_options::typed_value<std::string>* bind(std::filesystem::path& target,
                                                                const std::string& value);
  static boost::program_options::typed_value<std::string>* bind(std::optional<std::filesystem::path>& target,
                                                                const std::string& value);

  void declare(const std::string& name, const boost::program_options::value_semantic* semantic,
               const std::string& help);
  /// Everything that is shown.
  boost::program_options::options_description all() const;
  void read(std::vector<std::string> arguments, boost::program_options::variables_map& values);
  /// Joins "--watch", "2" to "--watch=2" where the option takes a number or none.
  void join_numbers(std::vector<std::string>& arguments) const;

  std::vector<std::unique_ptr<boost::program_options::options_description>> sections_;
  std::vector<std::string> titles_;  ///< of `sections_`
  boost::program_options::positional_options_description positions_;
  boost::program_options::options_description hidden_;
  std::map<std::string, std::string> renamed_;  ///< earlier name -> today's
  std::vector<std::string> with_or_without_;    ///< what options that a number may follow stand for alone: "--watch=2"
  std::vector<std::string> notes_;
  std::string arguments_, usage_;
};

}  // namespace mla
