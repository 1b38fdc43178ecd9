#include "core/device/placement.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

/// Kinds of devices that LibTorch and people have names for, and this build no code.
constexpr std::array<const char*, 7> kElsewhere = {"cuda", "gpu", "hip", "mps", "xpu", "hpu", "mtia"};

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const KnownDevice& device : known_devices()) names.push_back(device.name);
  return names;
}

constexpr const char *kFloat32 = "float32", *kBFloat16 = "bfloat16", *kAuto = "auto";

std::vector<std::string> products_names() { return {kFloat32, kBFloat16, kAuto}; }

std::string choices(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : " | ") + name;
  return all;
}

}  // namespace

std::vector<KnownDevice> known_devices() { return {{"cpu", "this machine's processors and their memory"}}; }

at::Device parse_device(const std::string& name, const std::string& path) {
  const std::vector<std::string> names = device_names();
  if (std::find(names.begin(), names.end(), name) != names.end()) return at::Device(name);
  const std::string kind = name.substr(0, name.find(':'));
  if (std::find(kElsewhere.begin(), kElsewhere.end(), kind) != kElsewhere.end()) {
    throw ConfigError(cat(path, " = ", name, ": this build computes on processors alone; known: ", join(names)));
  }
  throw ConfigError(cat(path, ": ", unknown_name(name, names)));
}

std::string device_choices() { return choices(device_names()); }

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
