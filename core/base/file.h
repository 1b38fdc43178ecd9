// Whole-file reading and atomic writing with errors that name the file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace mla {

/// The bytes of `path`. Throws DataError when it is missing, a folder, or unreadable.
std::string read_file(const std::filesystem::path& path);

/// Writes `bytes` beside `path` under a temporary name, syncs, and renames. Makes missing parent folders.
/// Throws DataError naming the path and the system's reason (for example a full disk); the old file then stays.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// As write_file_atomically, for a file that any number of processes may write at any moment: those of one machine take
/// turns, and each first removes what one that was killed in its turn has left.
void write_file_in_turn(const std::filesystem::path& path, std::string_view bytes);

/// A name beside `path` that no other process uses, for writing before a rename.
std::filesystem::path temporary_name(const std::filesystem::path& path);

/// Removes from `folder` what dead processes left under names of temporary_name(), of files whose names begin with
/// `prefix`. For whoever knows that no living one is writing them.
void remove_leftovers(const std::filesystem::path& folder, std::string_view prefix = "");

/// The time now by the clock of `folder`'s file system. Throws DataError when the folder cannot be written.
std::filesystem::file_time_type file_system_time(const std::filesystem::path& folder);

/// A read-only memory map of a whole file; unmapped when destroyed. Neither copyable nor movable.
class MappedFile {
 public:
  /// Throws DataError when the file is missing, empty or cannot be mapped.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace mla
