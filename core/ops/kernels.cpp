#include "core/ops/kernels.h"

#include <cstdlib>
#include <optional>
#include <string>

#include "core/base/error.h"
#include "core/ops/kernel_scope.h"

namespace mla {
namespace {

thread_local std::optional<bool> kernels_chosen_here;

}  // namespace

bool kernels_are_on() {
  static const bool on = [] {
    const char* value = std::getenv("MLA_KERNELS");
    const std::string text = value ? value : "on";
    if (text != "on" && text != "off") throw ConfigError(cat("MLA_KERNELS = ", text, ": known: on, off"));
    return text == "on";
  }();
  return kernels_chosen_here.value_or(on);
}

KernelScope::KernelScope(bool on) : before_(kernels_chosen_here) { kernels_chosen_here = on; }
KernelScope::~KernelScope() { kernels_chosen_here = before_; }

}  // namespace mla
