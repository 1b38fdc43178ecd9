#include "core/serve/sharded_writer.h"

#include <ATen/ATen.h>

#include "core/base/json.h"
#include "core/model/safetensors.h"
#include "core/model/weight_files.h"

namespace mla {
ShardedWriter::ShardedWriter(std::filesystem::path folder, at::ScalarType type, std::int64_t shard_bytes)
    : folder_(std::move(folder)), type_(type), shard_bytes_(shard_bytes) {}

void ShardedWriter::add(const std::string& name, const at::Tensor& tensor) {
  const auto bytes = tensor.numel() * static_cast<std::int64_t>(c10::elementSize(type_));
  // What is held goes first: a large tensor beside a full shard would be held twice.
  if (!tensors_.empty() && held_ + bytes > shard_bytes_) write_shard();
  tensors_.emplace_back(name, tensor.to(type_));
  held_ += bytes;
}

void ShardedWriter::write_shard() {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  write_safetensors(folder_ / shard_name(written_.size(), 0), tensors_);  // how many there are is known at the end
  written_.push_back(std::move(names));
  tensors_.clear();
  total_ += held_;
  held_ = 0;
}

void ShardedWriter::finish() {
  if (!tensors_.empty()) write_shard();
  Json map = Json::object();
  for (std::size_t i = 0; i < written_.size(); ++i) {
    const std::string name = shard_name(i, written_.size());
    std::filesystem::rename(folder_ / shard_name(i, 0), folder_ / name);
    for (const std::string& tensor : written_[i]) map[tensor] = name;
  }
  if (written_.size() > 1)
    write_json(folder_ / kIndexFile, {{"metadata", {{"total_size", total_}}}, {"weight_map", map}});
}

}  // namespace mla
