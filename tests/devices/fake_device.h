// An accelerator that is none, for tests of what runs on GPUs: LibTorch's spare device (PrivateUse1) under the name
// "fake". Its memory stands at addresses that nobody may touch; operators reach it by another mapping and compute with
// the host's own kernels, so that numbers are the host's and whatever reads a tensor's memory by itself dies at once.
// Fresh memory is full of NaN. What an operator is given must stand on the device, numbers without dimensions aside.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

#include "core/device/placement.h"

namespace mla::test {

inline const at::Device kFakeDevice{at::kPrivateUse1, 0};

/// A placement there, float32 where nothing is said.
inline Placement on_fake_device(at::ScalarType type = at::kFloat) { return Placement::in(type, kFakeDevice); }

/// What the host and the device have had to do with each other since the program began.
struct DeviceCounts {
  std::int64_t operations = 0;
  /// For values, for shapes that follow from values, and for copies that are not said to need none.
  std::int64_t waits = 0;
  std::int64_t copies_to_host = 0, copies_to_device = 0;
  std::int64_t wide_products = 0;  ///< of bfloat16 matrices, to float32
};
DeviceCounts device_counts();
DeviceCounts operator-(const DeviceCounts& a, const DeviceCounts& b);

/// Bytes of tensors that stand there now.
std::int64_t fake_device_bytes();

namespace fake {

/// Where operators reach what stands at `address`.
void* reachable(void* address);
DeviceCounts& counts();

}  // namespace fake
}  // namespace mla::test
