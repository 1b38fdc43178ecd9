// Where a model's buffers stand and in which number types, as a command line or a config says it once for all of them.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <vector>

#include "core/ops/products.h"

namespace mla {

/// A model's weights, what is computed with them, and the caches made for it. What is read and written (files, texts,
/// ids, scores) stands in the host's memory and is copied where it meets the model.
struct Placement {
  at::Device device = at::kCPU;
  /// Number type of the weights. Absent: as their file holds them; on the host they are then read-only views of it (for
  /// conversion, and for inspecting models larger than memory).
  std::optional<at::ScalarType> storage = at::kFloat;
  /// Number type of arithmetic, activations and caches.
  at::ScalarType compute = at::kFloat;
  /// In which numbers large products multiply where that is float32.
  Products products = Products::kFloat32;

  /// Weights held in the number type that is computed in.
  static Placement in(at::ScalarType type, at::Device device = at::kCPU, Products products = Products::kFloat32) {
    return {device, type, type, products};
  }

  bool operator==(const Placement&) const = default;
};

/// A device that this build computes on, by the name that options and configs give it.
struct KnownDevice {
  std::string name, description;
};
std::vector<KnownDevice> known_devices();

/// The device of that name. Throws ConfigError "<path> = cuda:0: …" for one that this build does not compute on, and
/// for a name that is none.
at::Device parse_device(const std::string& name, const std::string& path);

/// For the help of options: "cpu".
std::string device_choices();

/// What large float32 products multiply: float32, bfloat16, or by "auto" bfloat16 where this processor is faster with
/// it. Throws ConfigError "<path>: …" for another name.
Products parse_products(const std::string& name, const std::string& path);

/// The name that stands for itself on every machine: what "auto" comes to on this one, and other names as they are.
std::string settled_products(const std::string& name, const std::string& path);

/// For the help of options: "float32 | bfloat16 | auto".
std::string products_choices();

}  // namespace mla
