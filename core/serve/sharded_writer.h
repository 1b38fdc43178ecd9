// Weights of a model folder, written piece by piece.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace mla {

/// Writes tensors in the order in which they come: as model.safetensors, or where they are more than a shard holds as
/// several files with model.safetensors.index.json. No more than a shard is held at a time.
class ShardedWriter {
 public:
  /// Tensors are stored as `type`. A shard is no larger than `shard_bytes`, unless a tensor is.
  ShardedWriter(std::filesystem::path folder, at::ScalarType type, std::int64_t shard_bytes = kShardBytes);

  void add(const std::string& name, const at::Tensor& tensor);
  void finish();

 private:
  static constexpr std::int64_t kShardBytes = std::int64_t{256} << 20;
  void write_shard();

  std::filesystem::path folder_;
  at::ScalarType type_;
  std::int64_t shard_bytes_, held_ = 0, total_ = 0;
  std::vector<std::pair<std::string, at::Tensor>> tensors_;
  std::vector<std::vector<std::string>> written_;  ///< names by shard
};

}  // namespace mla
