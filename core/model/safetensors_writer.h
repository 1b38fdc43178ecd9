// Writing safetensors files whose tensors are made one at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/atomic_writer.h"

namespace mla {

/// A tensor to be written: what the header says of it, and its values, asked for once, when it is their turn.
struct TensorSource {
  std::string name;
  at::ScalarType type;
  std::vector<std::int64_t> sizes;
  std::function<at::Tensor()> values;

  std::int64_t bytes() const;
};

/// A tensor that is there.
TensorSource source_of(const std::string& name, const at::Tensor& tensor);
std::vector<TensorSource> sources_of(const std::vector<std::pair<std::string, at::Tensor>>& tensors);

/// Writes a file of these tensors, in their order, all but the rename: finish() of what is returned makes it appear.
/// Pages of tensors that are views of files are given back. Throws DataError when it cannot be written.
std::unique_ptr<AtomicWriter> stage_safetensors(const std::filesystem::path& path,
                                                const std::vector<TensorSource>& tensors);

}  // namespace mla
