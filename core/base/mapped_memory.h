// Memory that stands in files: how it is given back, and how more of it is made.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>

namespace mla {

/// Counts [begin, begin + size) among the memory that a file stands behind, until it is told otherwise, which must be
/// before the addresses are used for something else.
void count_as_mapped(const void* begin, std::size_t size);
void no_longer_mapped(const void* begin);

/// Whether all these bytes are such memory.
bool is_mapped(const void* begin, std::size_t size);

/// Gives the pages of these bytes back to the system where they are such memory, and does nothing where they are not:
/// their file is read again when they are next looked at, and what was written stands in it. A process that goes
/// through a large file once then holds only the part that it is at.
void release_mapped(const void* begin, std::size_t size);
/// The same for all of it.
void release_all_mapped();

/// A nameless file in a folder for what is made and not needed at once: memory that the system may write out, where
/// that of a program would have to stay. Its space is free again when the last piece and this object are gone, however
/// the process ends.
class ScratchFile {
 public:
  /// Throws DataError where no file can be made in `folder`, which must be there.
  explicit ScratchFile(const std::filesystem::path& folder);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  /// A copy of these bytes, at least one, in the file; it outlives this object and can be written to. Throws DataError
  /// for a full disk.
  std::shared_ptr<std::byte> keep(const void* bytes, std::size_t size);

 private:
  std::filesystem::path folder_;
  int fd_ = -1;
  std::size_t end_ = 0;
};

}  // namespace mla
