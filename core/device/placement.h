// Where a model's buffers stand and in which number types, as a command line or a config says it once for all of them.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <vector>

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

  /// Weights held in the number type that is computed in.
  static Placement in(at::ScalarType type, at::Device device = at::kCPU) { return {device, type, type}; }

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

}  // namespace mla
