#include "core/ops/kernels.h"

#include <cstdlib>
#include <string>

#include "core/base/error.h"

namespace mla {

bool kernels_are_on() {
  static const bool on = [] {
    const char* value = std::getenv("MLA_KERNELS");
    const std::string text = value ? value : "on";
    if (text != "on" && text != "off") throw ConfigError(cat("MLA_KERNELS = ", text, ": known: on, off"));
    return text == "on";
  }();
  return on;
}

}  // namespace mla
