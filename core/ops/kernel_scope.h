// Kernels on or off for a while, to compare what both give within one process.
#pragma once

#include <optional>

namespace mla {

/// As long as it lives, kernels_are_on() says `on` on this thread, whatever the environment says.
class KernelScope {
 public:
  explicit KernelScope(bool on);
  ~KernelScope();
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  std::optional<bool> before_;
};

}  // namespace mla
