#include "experiments/model/dtype.h"

#include <array>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr std::array<std::pair<const char*, at::ScalarType>, 4> kTypes = {{{"float64", at::ScalarType::Double},
                                                                           {"float32", at::ScalarType::Float},
                                                                           {"bfloat16", at::ScalarType::BFloat16},
                                                                           {"float16", at::ScalarType::Half}}};

}  // namespace

at::ScalarType parse_dtype(const std::string& name, const std::string& path) {
  std::vector<std::string> known;
  for (const auto& [known_name, type] : kTypes) {
    if (name == known_name) return type;
    known.emplace_back(known_name);
  }
  throw ConfigError(cat(path, ": ", unknown_name(name, known)));
}

std::string dtype_name(at::ScalarType type) {
  for (const auto& [name, known] : kTypes) {
    if (type == known) return name;
  }
  return c10::toString(type);
}

std::string dtype_choices() {
  std::string all;
  for (const auto& [name, type] : kTypes) all += (all.empty() ? "" : " | ") + std::string(name);
  return all;
}

}  // namespace mla
