#include "experiments/cli/options.h"

#include <algorithm>
#include <sstream>

#include "core/base/suggest.h"

namespace mla {
namespace {

namespace po = boost::program_options;

constexpr unsigned kHelpWidth = 120;
/// Abbreviated names would change their meaning when an option is added.
constexpr int kStyle = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;

void expect_at_least(const std::string& name, std::int64_t value, std::int64_t least) {
  if (value < least) throw ConfigError(cat("--", name, " = ", value, ": must be at least ", least));
}

}  // namespace

void OptionList::section(const std::string& title) {
  sections_.push_back(std::make_unique<po::options_description>(title, kHelpWidth, kHelpWidth / 2));
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

bool OptionList::parse(const std::vector<std::string>& arguments) {
  const po::options_description options = all();
  try {
    po::variables_map values;
    po::store(po::command_line_parser(arguments).options(options).positional(positions_).style(kStyle).run(), values);
    if (values.contains("help") && values["help"].as<bool>()) return false;
    po::notify(values);
    return true;
  } catch (const po::unknown_option& error) {
    throw ConfigError(
        cat("unknown option ", error.get_option_name(), "; ", alternatives(error.get_option_name(), names())));
  } catch (const po::required_option& error) {
    throw ConfigError(cat("option ", error.get_option_name(), " is missing; expected:", usage()));
  } catch (const po::too_many_positional_options_error&) {
    throw ConfigError(cat("too many arguments; expected:", usage()));
  }
}

std::string OptionList::help() const {
  std::ostringstream text;
  text << all();
  return text.str().substr(text.str().find_first_not_of('\n'));
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
