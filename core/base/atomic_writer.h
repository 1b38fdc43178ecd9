// Writing a large file piece by piece so that it appears only when it is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

namespace mla {

/// Writes under a temporary name beside the target; finish() syncs and renames. Destroyed before that, it leaves
/// nothing behind. Whole blocks bypass the page cache where the file system allows it (O_DIRECT): model files are
/// several gigabytes, and copying them through the cache costs more time than the disk needs.
class AtomicWriter {
 public:
  /// Throws DataError when the file cannot be made.
  explicit AtomicWriter(const std::filesystem::path& target);
  ~AtomicWriter();
  AtomicWriter(const AtomicWriter&) = delete;
  AtomicWriter& operator=(const AtomicWriter&) = delete;

  /// Throws DataError naming the target and the system's reason, for example a full disk.
  void write(const void* bytes, std::size_t count);

  /// Replaces bytes written before, for a header that counts what follows it; nothing is written after it.
  void overwrite(std::uint64_t offset, const void* bytes, std::size_t count);

  /// Writes what is left and syncs: what finish() then does needs no room on the disk.
  void complete();

  /// Completes, calls `before_rename` (may be empty) while the old file still stands, and renames.
  void finish(const std::function<void()>& before_rename);

 private:
  struct FreeAligned {
    void operator()(std::byte* memory) const;
  };
  void flush(std::size_t count);
  void write_through_cache();
  [[noreturn]] void fail() const;

  std::filesystem::path target_, temporary_;
  int fd_ = -1;
  bool direct_ = false;
  std::unique_ptr<std::byte, FreeAligned> block_;
  std::size_t filled_ = 0;
};

}  // namespace mla
