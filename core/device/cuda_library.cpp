#include "core/device/cuda_library.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Device.h>
#include <dlfcn.h>

#include <map>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr const char* kLibrary = "libtorch_cuda.so";

/// The linker's reason without its line breaks; empty when the library is loaded.
std::string open_library(const std::string& name) {
  if (::dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) return {};
  std::string reason = ::dlerror();
  for (char& c : reason) c = c == '\n' ? ' ' : c;
  return reason;
}

std::string load_beside(const std::filesystem::path& folder) {
  const std::filesystem::path beside = folder / kLibrary;
  const bool there = std::filesystem::exists(beside);
  const std::string reason = open_library(there ? beside.string() : kLibrary);
  if (!reason.empty() && there) return cat(beside.string(), " cannot be loaded: ", reason);
  if (!reason.empty()) {
    return cat(kLibrary, " is not beside the LibTorch in use, in ", folder.string(),
               ": `make setup-cuda` fetches it, or build with LIBTORCH=/path of a LibTorch with CUDA");
  }
  if (cuda_devices() == 0) return "no GPU is seen: nvidia-smi shows whether there is a driver, and what it sees";
  return {};
}

}  // namespace

std::filesystem::path libtorch_folder() {
  Dl_info info{};
  // A function of libc10, which lies beside all others.
  const auto* inside =
      reinterpret_cast<const void*>(static_cast<std::string (*)(c10::DeviceType, bool)>(&c10::DeviceTypeName));
  if (::dladdr(inside, &info) == 0 || info.dli_fname == nullptr) return ".";
  return std::filesystem::absolute(info.dli_fname).parent_path();
}

std::string load_cuda_library(const std::filesystem::path& folder) {
  static std::map<std::filesystem::path, std::string> answers;
  const auto found = answers.find(folder);
  return found != answers.end() ? found->second : answers.emplace(folder, load_beside(folder)).first->second;
}

int cuda_devices() {
  const at::CUDAHooksInterface& hooks = at::detail::getCUDAHooks();
  return hooks.hasCUDA() ? hooks.getNumGPUs() : 0;
}

}  // namespace mla
