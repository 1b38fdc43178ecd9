// LibTorch's CUDA part, which is a library of its own: found and loaded when it is asked for, by the same program that
// runs without it.
#pragma once

#include <filesystem>
#include <string>

namespace mla {

/// The folder of the LibTorch that this process runs with.
std::filesystem::path libtorch_folder();

/// Loads libtorch_cuda.so from that folder or, where it is not there, from where the system finds libraries. Returns
/// why nothing can be computed on a GPU, and what helps, as one line; empty where it can. Only the first call with a
/// folder loads anything, and it must come before anything else asks LibTorch for CUDA, which remembers the answer.
std::string load_cuda_library(const std::filesystem::path& folder);

/// GPUs of this machine that a loaded library sees.
int cuda_devices();

}  // namespace mla
