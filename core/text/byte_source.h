// Bytes one after another, from a file, from memory, or unpacked on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mla {

/// A sequence of bytes that is read once, from its beginning to its end; memory holds a block of it.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  /// Fills the front of `to`, which is not empty; returns how many bytes, 0 only at the end. Throws DataError naming
  /// the file where it cannot be read or unpacked.
  virtual std::size_t read(std::span<char> to) = 0;

  /// Bytes read so far of what lies on the disk.
  virtual std::int64_t stored_bytes() const = 0;
};

/// The bytes of a file. Throws DataError when it cannot be opened, and for a folder.
std::unique_ptr<ByteSource> open_file(const std::filesystem::path& path);

std::unique_ptr<ByteSource> bytes_in_memory(std::string bytes);

/// `head`, which was read of `rest` already, and then the rest.
std::unique_ptr<ByteSource> put_back(std::string head, std::unique_ptr<ByteSource> rest);

/// The first `count` bytes, or all where there are fewer.
std::string read_head(ByteSource& source, std::size_t count);

/// How bytes are packed, by what they begin with.
enum class Packing { kNone, kGzip, kZstd, kXz };
Packing packing_of(std::string_view head);

/// What the bytes unpack to: all members, frames or streams that stand one after another. Checksums are verified; for
/// data that is damaged, cut short, or followed by something else read() throws DataError naming `name`.
std::unique_ptr<ByteSource> unpack(Packing packing, std::unique_ptr<ByteSource> packed, const std::string& name);

}  // namespace mla
