#include "tests/fuzz/support/target.h"

#include <filesystem>
#include <stdexcept>

#include "core/base/error.h"

namespace mla::fuzz {
namespace {

std::vector<Target>& registered() {
  static std::vector<Target> all;
  return all;
}

/// Messages hold names and a few values; one that repeats the file does not fit a terminal.
constexpr std::size_t kLongestMessage = 4000;

bool refused(const std::exception& error) {
  const std::string_view message = error.what();
  promise(!message.empty(), "an error without a message");
  promise(message.size() <= kLongestMessage,
          cat("a message of ", message.size(), " bytes: ", message.substr(0, 200), "..."));
  return false;
}

}  // namespace

Registration::Registration(Target target) { registered().push_back(std::move(target)); }

const std::vector<Target>& targets() { return registered(); }

const Target& target_named(const std::string& name) {
  std::string known;
  for (const Target& target : registered()) {
    if (target.name == name) return target;
    known += " " + target.name;
  }
  throw std::invalid_argument("no target '" + name + "'; there are:" + known);
}

bool try_input(const Target& target, std::string_view input) {
  try {
    target.run(input);
    return true;
  } catch (const DataError& error) {
    return refused(error);
  } catch (const ConfigError& error) {
    return refused(error);
  } catch (const std::filesystem::filesystem_error& error) {
    return refused(error);
  }
}

void promise(bool kept, const std::string& what) {
  if (!kept) throw std::logic_error("fuzz target: " + what);
}

}  // namespace mla::fuzz
