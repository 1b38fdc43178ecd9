#include "core/device/placement.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/device/cuda_library.h"

namespace mla {
namespace {

/// Kinds of devices that LibTorch and people have names for, and this program does not use.
constexpr std::array<const char*, 6> kElsewhere = {"gpu", "hip", "mps", "xpu", "hpu", "mtia"};
constexpr const char* kCuda = "cuda";

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const KnownDevice& device : known_devices()) names.push_back(device.name);
  return names;
}

/// "cuda" and "cuda:N". Throws ConfigError for another number, and where there is no such GPU.
at::Device cuda_device(const std::string& name, const std::string& path) {
  const std::string number = name == kCuda ? "0" : name.substr(std::min(name.size(), name.find(':') + 1));
  const bool digits = !number.empty() && number.size() <= 2 && number.find_first_not_of("0123456789") == number.npos;
  if (!digits) throw ConfigError(cat(path, " = ", name, ": expected cuda, or cuda:N with the number of a GPU"));
  const std::string problem = load_cuda_library(libtorch_folder());
  if (!problem.empty()) throw ConfigError(cat(path, " = ", name, ": ", problem));
  const int index = std::stoi(number);
  if (index >= cuda_devices())
    throw ConfigError(cat(path, " = ", name, ": this machine has ", cuda_devices(), ", counted from cuda:0"));
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

constexpr const char *kFloat32 = "float32", *kBFloat16 = "bfloat16", *kAuto = "auto";

std::vector<std::string> products_names() { return {kFloat32, kBFloat16, kAuto}; }

std::string choices(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : " | ") + name;
  return all;
}

}  // namespace

std::vector<KnownDevice> known_devices() {
  return {{"cpu", "this machine's processors and their memory"},
          {kCuda, "an NVIDIA GPU, the first or cuda:N, where LibTorch's CUDA library is there (make setup-cuda)"}};
}

at::Device parse_device(const std::string& name, const std::string& path) {
  const std::vector<std::string> names = device_names();
  if (name == "cpu") return at::kCPU;
  const std::string kind = name.substr(0, name.find(':'));
  if (kind == kCuda) return cuda_device(name, path);
  // One by which a library that was loaded beforehand extends LibTorch.
  if (c10::is_privateuse1_backend_registered() && name == c10::get_privateuse1_backend()) return {at::kPrivateUse1, 0};
  if (std::find(kElsewhere.begin(), kElsewhere.end(), kind) != kElsewhere.end()) {
    throw ConfigError(cat(path, " = ", name, ": nothing is computed there; known: ", join(names)));
  }
  throw ConfigError(cat(path, ": ", unknown_name(name, names)));
}

std::string device_choices() { return "cpu | cuda | cuda:N"; }

Products parse_products(const std::string& name, const std::string& path) {
  return settled_products(name, path) == kBFloat16 ? Products::kBFloat16 : Products::kFloat32;
}

std::string settled_products(const std::string& name, const std::string& path) {
  const std::vector<std::string> names = products_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw ConfigError(cat(path, ": ", unknown_name(name, names)));
  }
  if (name != kAuto) return name;
  return has_fast_bfloat16() ? kBFloat16 : kFloat32;
}

std::string products_choices() { return choices(products_names()); }

}  // namespace mla
