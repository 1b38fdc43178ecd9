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

namespace {

constexpr const char* kAuto = "auto";
constexpr std::array<std::pair<const char*, Products>, 2> kProducts = {
    {{"float32", Products::kFloat32}, {"bfloat16", Products::kBFloat16}}};

std::vector<std::string> products_names() {
  std::vector<std::string> names;
  for (const auto& [name, products] : kProducts) names.emplace_back(name);
  names.emplace_back(kAuto);
  return names;
}

}  // namespace

Products parse_products(const std::string& name, const std::string& path) {
  const std::string settled = settled_products(name, path);
  return std::find_if(kProducts.begin(), kProducts.end(), [&](const auto& known) { return known.first == settled; })
      ->second;
}

std::string settled_products(const std::string& name, const std::string& path) {
  const std::vector<std::string> names = products_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw ConfigError(cat(path, ": ", unknown_name(name, names)));
  }
  if (name != kAuto) return name;
  return has_fast_bfloat16() ? "bfloat16" : "float32";
}

std::string products_choices() {
  std::string all;
  for (const std::string& name : products_names()) all += (all.empty() ? "" : " | ") + name;
  return all;
}

std::string device_choices() {
  std::string all;
  for (const std::string& name : device_names()) all += (all.empty() ? "" : " | ") + name;
  return all;
}

}  // namespace mla
