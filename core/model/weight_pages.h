// Which weights of a model stay in memory while it is worked on layer by layer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "core/base/mapped_memory.h"
#include "core/model/decoder.h"

namespace mla {

/// Gives back the pages of a tensor that is a view of a mapped file: they are read again when it is next looked at.
/// Nothing happens to other tensors.
void release_pages(const at::Tensor& tensor);

/// The same for all weights whose names begin with `prefix`, and for those of a layer.
void release_weights(const Decoder& decoder, const std::string& prefix);
void release_layer(const Decoder& decoder, std::int64_t layer);

/// Where weights go that were made and wait to be written: a model may then be larger than memory.
class WeightShelf {
 public:
  /// Its file is made when it is first needed, in the folder that `output` stands or will stand in.
  explicit WeightShelf(std::filesystem::path output) : output_(std::move(output)) {}

  /// The same values in the file, with the same strides; small tensors, those that are views of files already, and
  /// those of other devices as they are. Throws DataError where the folder cannot be written, and for a full disk.
  at::Tensor shelve(const at::Tensor& tensor);

  /// Shelves a layer's weights, and gives back the pages of those that stand in files.
  void shelve_layer(Decoder& decoder, std::int64_t layer);

 private:
  std::filesystem::path output_;
  std::optional<ScratchFile> file_;
};

}  // namespace mla
