#include "core/device/counted_memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <mutex>
#include <unordered_map>

#include "core/base/error.h"

namespace mla {
namespace {

// Tensors may outlive the count, so that it and the allocator stay for good.
std::atomic<std::int64_t> bytes_now{0}, bytes_peak{0};
std::atomic<bool> is_counting{false};

void count_bytes(std::int64_t bytes) {
  const std::int64_t now = bytes_now += bytes;
  std::int64_t peak = bytes_peak;
  while (now > peak && !bytes_peak.compare_exchange_weak(peak, now)) {
  }
}

/// What is there, by where it begins: LibTorch wants a tensor's memory to be all that its deleter is told.
std::mutex sizes_mutex;
std::unordered_map<void*, std::int64_t>& counted_sizes() {
  static auto* all = new std::unordered_map<void*, std::int64_t>;
  return *all;
}

void release_counted(void* memory);

class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator& usual) : usual_(usual) {}
  c10::DataPtr allocate(std::size_t bytes) override {
    void* memory = usual_.allocate(bytes).release_context();
    if (memory != nullptr) {
      const std::lock_guard lock(sizes_mutex);
      counted_sizes()[memory] = static_cast<std::int64_t>(bytes);
      count_bytes(static_cast<std::int64_t>(bytes));
    }
    return {memory, memory, &release_counted, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release_counted; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
  c10::Allocator& usual() const { return usual_; }

 private:
  c10::Allocator& usual_;
};

CountingAllocator& counting_allocator() {
  static CountingAllocator* all = new CountingAllocator(*c10::GetAllocator(c10::DeviceType::CPU));
  return *all;
}

void release_counted(void* memory) {
  if (memory != nullptr) {
    const std::lock_guard lock(sizes_mutex);
    const auto node = counted_sizes().extract(memory);
    if (!node.empty()) bytes_now -= node.mapped();
  }
  counting_allocator().usual().raw_deleter()(memory);
}

}  // namespace

CountedMemory::CountedMemory() {
  expects(!is_counting.exchange(true), "memory is counted once at a time");
  CountingAllocator& mine = counting_allocator();
  bytes_now = bytes_peak = 0;
  c10::SetAllocator(c10::DeviceType::CPU, &mine);
}

CountedMemory::~CountedMemory() {
  c10::SetAllocator(c10::DeviceType::CPU, &counting_allocator().usual());
  is_counting = false;
}

std::int64_t CountedMemory::now() const { return bytes_now; }
std::int64_t CountedMemory::peak() const { return bytes_peak; }
void CountedMemory::forget_peak() { bytes_peak = bytes_now.load(); }

}  // namespace mla
