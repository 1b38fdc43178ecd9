// How the layers of a model share a budget of latent elements.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace mla {

/// What one layer does with its share.
struct LayerShare {
  std::int64_t least = 1, most = 1;  ///< latent widths it may have
  std::int64_t stated = 1;           ///< the width that the options state for it; all of these together are the budget
  /// Relative error of a width (Decomposition::error()); empty for an allocator that does not measure.
  std::function<double(std::int64_t width)> error;
  std::map<std::string, at::Tensor> measured{};  ///< the statistics that the allocator asks for
  /// ln of the condition numbers of its key and value matrices, together; empty where there are no matrices.
  std::function<double()> log_condition{};
};

/// A way to spend a budget. Registered by name; a factorization's options name one under `allocate`.
class Allocator {
 public:
  static constexpr const char* kKind = "allocator";
  virtual ~Allocator() = default;

  /// The statistics of each layer that it needs, as core/compress/requirement.h names them.
  virtual std::vector<std::string> statistics() const { return {}; }

  /// Whether it looks at errors, so that widths are known only once layers are decomposed.
  virtual bool measures() const = 0;

  /// The width of each layer, from `least` to `most`. Their sum is that of the stated widths, exactly.
  virtual std::vector<std::int64_t> allocate(const std::vector<LayerShare>& layers) const = 0;
};

}  // namespace mla
