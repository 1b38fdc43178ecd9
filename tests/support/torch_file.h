// Files as torch.save(tensor, path) writes them.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace mla::test {

/// A stored zip archive of a pickle (protocol 2) and the numbers of the whole buffer that `tensor` is a view of.
void write_torch_file(const std::filesystem::path& path, const at::Tensor& tensor);

}  // namespace mla::test
