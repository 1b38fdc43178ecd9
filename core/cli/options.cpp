#include "core/cli/options.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "core/base/suggest.h"

namespace mla {
namespace {

namespace po = boost::program_options;

constexpr unsigned kHelpWidth = 120;
/// Abbreviated names would change their meaning when an option is added.
constexpr int kStyle = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;

/// An option as it was declared. Its parameter reads "VALUE", "VALUE (=default)", or is empty for a flag.
OptionHelp describe(const std::string& section, const po::option_description& option) {
  OptionHelp help;
  help.section = section;
  help.name = option.long_name();
  const std::string shown = option.canonical_display_name(po::command_line_style::allow_dash_for_short);
  if (shown.size() == 2 && shown[0] == '-') help.letter = shown.substr(1);
  const std::string parameter = option.semantic()->max_tokens() == 0 ? "" : option.format_parameter();
  const std::size_t begin = parameter.find(" (=");
  help.value = parameter.substr(0, begin);
  if (begin != std::string::npos) help.default_value = parameter.substr(begin + 3, parameter.size() - begin - 4);
  help.help = option.description();
  return help;
}

void expect_at_least(const std::string& name, std::int64_t value, std::int64_t least) {
  if (value < least) throw ConfigError(cat("--", name, " = ", value, ": must be at least ", least));
}

const OptionHelp* find_option(const std::vector<OptionHelp>& options, const std::string& dashed) {
  const std::string name = dashed.substr(std::min(dashed.find_first_not_of('-'), dashed.size()));
  const auto found =
      std::find_if(options.begin(), options.end(), [&](const auto& option) { return option.name == name; });
  return found == options.end() ? nullptr : &*found;
}

/// "CONFIG" where that alone is enough, "option --model" where its name goes before.
std::string spelled(const std::vector<OptionHelp>& options, const std::string& dashed) {
  const OptionHelp* option = find_option(options, dashed);
  return option != nullptr && option->argument ? option->value : "option " + dashed;
}

/// Boost counts bytes: a line whose option holds "…" begins its text two places early for each.
std::string aligned(const std::string& help) {
  constexpr std::string_view kDots = "…";
  std::istringstream lines(help);
  std::string text;
  for (std::string line; std::getline(lines, line); text += line + "\n") {
    const std::size_t begin = line.find_first_not_of(' ');
    const std::size_t gap = begin == std::string::npos ? begin : line.find("  ", begin);
    if (begin != 2 || gap == std::string::npos) continue;
    std::size_t dots = 0;
    for (std::size_t at = line.find(kDots); at < gap; at = line.find(kDots, at + 1)) ++dots;
    line.insert(gap, (kDots.size() - 1) * dots, ' ');
  }
  return text;
}

/// What a value that is none should have been: those of options of other types are never refused.
std::string expected_value(const std::vector<OptionHelp>& options, const std::string& dashed) {
  const OptionHelp* option = find_option(options, dashed);
  return option != nullptr && option->value == "N" ? "a whole number" : "a number";
}

}  // namespace

void OptionList::section(const std::string& title) {
  sections_.push_back(std::make_unique<po::options_description>(title, kHelpWidth, kHelpWidth / 2));
  titles_.push_back(title);
}

void OptionList::declare(const std::string& name, const po::value_semantic* semantic, const std::string& help) {
  sections_.back()->add_options()(name.c_str(), semantic, help.c_str());
}

void OptionList::add_count(const std::string& name, std::int64_t& target, std::int64_t least, const std::string& help) {
  declare(name, bind(target, "N")->notifier([=](std::int64_t given) { expect_at_least(name, given, least); }), help);
}

void OptionList::add_count(const std::string& name, std::optional<std::int64_t>& target, std::int64_t least,
                           const std::string& help) {
  const auto keep = [=, &target](std::int64_t given) {
    expect_at_least(name, given, least);
    target = given;
  };
  declare(name, po::value<std::int64_t>()->value_name("N")->notifier(keep), help);
}

void OptionList::add_several(const std::string& name, std::vector<std::string>& target, const std::string& value,
                             const std::string& help) {
  declare(name, bind(target, value)->multitoken(), help);
}

void OptionList::words(std::vector<std::string>& target) {
  hidden_.add_options()("words", bind(target, "WORDS"), "");
  positions_.add("words", -1);
}

void OptionList::renamed(const std::string& before, const std::string& name) {
  const auto known = all();
  const po::option_description* option = known.find_nothrow(name, false);
  expects(option != nullptr, cat("--", before, " stands for --", name, ", which is declared after it or not at all"));
  if (option->semantic()->max_tokens() == 0) {
    hidden_.add_options()(before.c_str(), po::bool_switch(), "");
  } else {
    hidden_.add_options()(before.c_str(), po::value<std::string>(), "");
  }
  renamed_[before] = name;
}

void OptionList::add_optional_number(const std::string& name, std::optional<double>& target, double lone,
                                     const std::string& value, const std::string& help) {
  auto* semantic = po::value<double>()->value_name(value)->implicit_value(lone, cat(lone));
  declare(name, semantic->notifier([&target](double given) { target = given; }), help);
  with_or_without_.push_back(cat("--", name, "=", lone));
}

void OptionList::join_numbers(std::vector<std::string>& arguments) const {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto known = std::find_if(with_or_without_.begin(), with_or_without_.end(), [&](const std::string& alone) {
      return arguments[i] == alone.substr(0, alone.find('='));
    });
    if (known == with_or_without_.end()) continue;
    const std::string next = i + 1 < arguments.size() ? arguments[i + 1] : "";
    double number = 0;
    const auto [end, error] = std::from_chars(next.data(), next.data() + next.size(), number);
    if (error != std::errc() || end != next.data() + next.size()) {
      arguments[i] = *known;  // what follows is another argument
      continue;
    }
    arguments[i] += "=" + next;
    arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  }
}

void OptionList::flag(const std::string& name, bool& target, const std::string& help) {
  declare(name, po::bool_switch(&target), help);
}

po::typed_value<std::string>* OptionList::bind(std::filesystem::path& target, const std::string& value) {
  auto* semantic =
      po::value<std::string>()->value_name(value)->notifier([&](const std::string& given) { target = given; });
  return target.empty() ? semantic : semantic->default_value(target.string());
}

po::typed_value<std::string>* OptionList::bind(std::optional<std::filesystem::path>& target, const std::string& value) {
  return po::value<std::string>()->value_name(value)->notifier([&](const std::string& given) { target = given; });
}

void OptionList::read(std::vector<std::string> arguments, po::variables_map& values) {
  join_numbers(arguments);
  po::options_description known = all();
  known.add(hidden_);
  auto given = po::command_line_parser(arguments).options(known).positional(positions_).style(kStyle).run();
  for (po::option& option : given.options) {
    const auto found = renamed_.find(option.string_key);
    if (found == renamed_.end()) continue;
    const std::string note = cat("--", found->first, " is now --", found->second);
    if (std::find(notes_.begin(), notes_.end(), note) == notes_.end()) notes_.push_back(note);
    option.string_key = found->second;
  }
  po::store(given, values);
}

bool OptionList::parse(const std::vector<std::string>& arguments) {
  try {
    po::variables_map values;
    read(arguments, values);
    if (values.contains("help") && values["help"].as<bool>()) return false;
    po::notify(values);
    return true;
  } catch (const po::unknown_option& error) {
    throw ConfigError(
        cat("unknown option ", error.get_option_name(), "; ", alternatives(error.get_option_name(), names())));
  } catch (const po::required_option& error) {
    throw ConfigError(cat(spelled(described(), error.get_option_name()), " is missing; expected:", usage()));
  } catch (const po::too_many_positional_options_error&) {
    throw ConfigError(cat("too many arguments; expected:", usage()));
  } catch (const po::validation_error& error) {
    throw ConfigError(cat(error.what(), ": expected ", expected_value(described(), error.get_option_name())));
  } catch (const po::error& error) {
    throw ConfigError(error.what());
  }
}

std::string OptionList::help() const {
  std::ostringstream text;
  text << all();
  return aligned(text.str().substr(text.str().find_first_not_of('\n')));
}

std::vector<OptionHelp> OptionList::described() const {
  std::vector<OptionHelp> all_options;
  for (std::size_t i = 0; i < sections_.size(); ++i) {
    for (const auto& option : sections_[i]->options()) all_options.push_back(describe(titles_[i], *option));
  }
  for (unsigned i = 0; i < positions_.max_total_count() && i < all_options.size(); ++i) {
    const std::string& name = positions_.name_for_position(i);
    for (OptionHelp& option : all_options) option.argument |= option.name == name;
  }
  return all_options;
}

std::vector<std::string> OptionList::names() const {
  std::vector<std::string> all_names;
  for (const auto& part : sections_) {
    for (const auto& option : part->options()) all_names.push_back("--" + option->long_name());
  }
  return all_names;
}

po::options_description OptionList::all() const {
  po::options_description options(kHelpWidth, kHelpWidth / 2);
  for (const auto& part : sections_) {
    if (!part->options().empty()) options.add(*part);
  }
  return options;
}

}  // namespace mla
