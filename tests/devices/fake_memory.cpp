// Memory of the fake device: one piece of nameless memory, mapped twice. Tensors' addresses lie in the mapping that
// allows nothing, for good; operators use the other. So nothing is opened and closed, and threads do not matter.
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tests/devices/fake_device.h"

namespace mla::test {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{8} << 30;  // of addresses; pages come when they are written
constexpr std::size_t kAlignment = 64;
constexpr int kNaN = 0xFF;  // as every byte of float16, bfloat16, float32 and float64; of integers: -1

class Arena {
 public:
  Arena() {
    const int file = ::memfd_create("fake device", 0);
    TORCH_CHECK(file >= 0 && ::ftruncate(file, kArenaBytes) == 0, "the fake device has no memory");
    const auto map = [&](int access) {
      void* at = ::mmap(nullptr, kArenaBytes, access, MAP_SHARED | MAP_NORESERVE, file, 0);
      TORCH_CHECK(at != MAP_FAILED, "the fake device's memory cannot be mapped");
      return static_cast<char*>(at);
    };
    device_ = map(PROT_NONE);
    host_ = map(PROT_READ | PROT_WRITE);
    ::close(file);
  }

  void* allocate(std::size_t bytes) {
    const std::size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const std::lock_guard lock(mutex_);
    std::vector<char*>& known = free_[size];
    char* at = known.empty() ? device_ + used_ : known.back();
    if (known.empty()) {
      used_ += size;
      TORCH_CHECK(used_ <= kArenaBytes, "the fake device's memory is full");
    } else {
      known.pop_back();
    }
    sizes_[at] = size;
    bytes_ += static_cast<std::int64_t>(size);
    std::memset(reachable(at), kNaN, size);
    return at;
  }

  void release(void* at) {
    const std::lock_guard lock(mutex_);
    const auto node = sizes_.extract(at);
    if (node.empty()) return;
    bytes_ -= static_cast<std::int64_t>(node.mapped());
    free_[node.mapped()].push_back(static_cast<char*>(at));
  }

  void* reachable(void* address) const { return host_ + (static_cast<char*>(address) - device_); }
  std::int64_t bytes() const { return bytes_; }

 private:
  char *device_ = nullptr, *host_ = nullptr;
  std::mutex mutex_;
  std::size_t used_ = 0;
  std::int64_t bytes_ = 0;
  std::map<std::size_t, std::vector<char*>> free_;
  std::unordered_map<void*, std::size_t> sizes_;
};

Arena& arena() {
  static Arena* all = new Arena;  // tensors may outlive the program's static objects
  return *all;
}

void release_memory(void* at) {
  if (at != nullptr) arena().release(at);
}

class FakeAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* at = bytes > 0 ? arena().allocate(bytes) : nullptr;
    return {at, at, &release_memory, kFakeDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release_memory; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(fake::reachable(to), fake::reachable(const_cast<void*>(from)), bytes);
  }
};

/// One device, one stream, always the current ones.
struct FakeGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return at::kPrivateUse1; }
  c10::Device exchangeDevice(c10::Device) const override { return kFakeDevice; }
  c10::Device getDevice() const override { return kFakeDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, kFakeDevice); }
  c10::Stream exchangeStream(c10::Stream) const override { return c10::Stream(c10::Stream::DEFAULT, kFakeDevice); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};

struct FakeHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex) const override { return true; }
};

[[maybe_unused]] const bool is_registered = [] {
  static FakeAllocator allocator;
  static FakeHooks hooks;
  c10::register_privateuse1_backend("fake");
  c10::SetAllocator(at::kPrivateUse1, &allocator);
  c10::impl::registerDeviceGuard(at::kPrivateUse1, new FakeGuard);
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

}  // namespace

void* fake::reachable(void* address) { return address == nullptr ? nullptr : arena().reachable(address); }

std::int64_t fake_device_bytes() { return arena().bytes(); }

}  // namespace mla::test
