#include "core/compress/requirement.h"

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/registry.h"

namespace mla {
namespace {

constexpr const char* kGradient = "gradient:";

std::optional<Tap> parse_tap(const std::string& name) {
  for (const auto& [known, tap] : enum_names(Tap{})) {
    if (known == name) return tap;
  }
  return {};
}

}  // namespace

std::string Requirement::name() const {
  return cat(gradient ? kGradient : "", detail::write_enum(tap), with ? cat("+", detail::write_enum(*with)) : "", ".",
             reducer, options);
}

std::optional<Requirement> Requirement::parse(const std::string& name) {
  Requirement requirement;
  const std::size_t dot = name.find('.');
  if (dot == std::string::npos) return {};
  std::string taps = name.substr(0, dot);
  requirement.gradient = taps.starts_with(kGradient);
  if (requirement.gradient) taps.erase(0, std::string(kGradient).size());
  const std::size_t plus = taps.find('+');
  const std::optional<Tap> tap = parse_tap(taps.substr(0, plus));
  if (!tap) return {};
  requirement.tap = *tap;
  if (plus != std::string::npos) {
    requirement.with = parse_tap(taps.substr(plus + 1));
    if (!requirement.with) return {};
  }
  const std::size_t brace = name.find('{', dot);
  requirement.reducer = name.substr(dot + 1, brace == std::string::npos ? brace : brace - dot - 1);
  if (brace != std::string::npos) requirement.options = name.substr(brace);
  for (const std::string& known : Registry<Reducer>::instance().names()) {
    if (known == requirement.reducer) return requirement;
  }
  return {};
}

}  // namespace mla
