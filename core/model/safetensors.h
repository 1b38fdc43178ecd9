// Reading and writing safetensors files.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mla {

/// Tensors by name. Those read from a file are views of its memory map, which lives as long as any of them: read-only,
/// loaded from disk when touched, never held twice.
using WeightMap = std::map<std::string, at::Tensor>;

/// The tensors of one file (float64, float32, float16, bfloat16, integers, bool). Throws DataError naming the file and
/// tensor when the header lies outside the file, is malformed, or does not fit the data: tensors must follow each other
/// without holes, overlaps or bytes that none covers, as the safetensors library demands.
WeightMap read_safetensors(const std::filesystem::path& path);

/// Writes tensors in the order given, streaming, under a temporary name that is renamed when complete.
/// Throws DataError when the file cannot be written (for example a full disk); then nothing is left behind.
/// `before_rename`, if given, runs when all is written and the old file still stands.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::function<void()>& before_rename = {});

}  // namespace mla
