// A tensor that PyTorch wrote by torch.save(tensor, path), read without PyTorch.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace mla {

/// The one tensor in such a file (a zip archive of a pickle and its numbers; files of PyTorch 1.6 and later). The
/// pickle is read as a description of a tensor and nothing else: no code of it runs. Throws DataError naming the file
/// for anything else: several tensors, other objects, compressed entries, elements outside the file.
at::Tensor read_torch_tensor(const std::filesystem::path& path);

}  // namespace mla
