// How much memory tensors take on the host: counted where it is allocated.
#pragma once

#include <cstdint>

namespace mla {

/// Counts the bytes of tensors that are allocated on the host while it lives, at most one at a time. What was allocated
/// before is not counted, and may go away uncounted.
class CountedMemory {
 public:
  CountedMemory();
  ~CountedMemory();
  CountedMemory(const CountedMemory&) = delete;
  CountedMemory& operator=(const CountedMemory&) = delete;

  std::int64_t now() const;
  /// The most since it began, or since forget_peak().
  std::int64_t peak() const;
  void forget_peak();
};

}  // namespace mla
