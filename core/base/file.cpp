#include "core/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/base/error.h"
#include "core/base/mapped_memory.h"

namespace mla {
namespace {

constexpr const char* kTemporary = ".tmp";

/// A file descriptor that closes itself.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

int open_for_reading(const std::filesystem::path& path) {
  std::error_code ignored;  // What keeps us from looking also keeps us from opening, and is reported then.
  if (std::filesystem::is_directory(path, ignored))
    throw DataError(cat(path.string(), ": expected a file, found a folder"));
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw DataError(cat(path.string(), ": cannot be read: ", std::strerror(errno)));
  return fd;
}

void write_all(int fd, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      throw DataError(cat(path.string(), ": cannot be written: ", std::strerror(errno)));
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

/// What the temporary names of a file begin with, on this machine: processes of several may write to one folder.
std::string temporary_prefix(const std::filesystem::path& path) {
  char host[64] = {};
  ::gethostname(host, sizeof host - 1);
  return cat(path.filename().string(), ".", host, ".");
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  const Descriptor file{open_for_reading(path)};
  std::string bytes;
  struct stat info {};
  if (::fstat(file.fd, &info) == 0 && info.st_size > 0) bytes.reserve(static_cast<std::size_t>(info.st_size));
  char block[1 << 16];
  for (;;) {
    const ssize_t count = ::read(file.fd, block, sizeof block);
    if (count == 0) return bytes;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw DataError(cat(path.string(), ": cannot be read: ", std::strerror(errno)));
    bytes.append(block, static_cast<std::size_t>(count));
  }
}

std::filesystem::path temporary_name(const std::filesystem::path& path) {
  static std::atomic<int> counter = 0;
  return path.parent_path() / cat(temporary_prefix(path), ::getpid(), ".", counter++, kTemporary);
}

void remove_leftovers(const std::filesystem::path& folder, std::string_view prefix) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::filesystem::path& file = entry.path();
    if (file.extension() == kTemporary && file.filename().string().starts_with(prefix)) ::unlink(file.c_str());
  }
}

void write_file_in_turn(const std::filesystem::path& path, std::string_view bytes) {
  std::error_code error;  // what goes wrong here is reported by the writing
  std::filesystem::create_directories(path.parent_path(), error);
  // The kernel lets go of the lock when a process dies: whoever holds it knows that no other is writing, on this
  // machine.
  const Descriptor folder{::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  const bool alone = folder.fd >= 0 && ::flock(folder.fd, LOCK_EX) == 0;
  if (alone) remove_leftovers(path.parent_path(), temporary_prefix(path));
  write_file_atomically(path, bytes);
}

std::filesystem::file_time_type file_system_time(const std::filesystem::path& folder) {
  remove_leftovers(folder, temporary_prefix(folder / "time"));  // of a process that was killed in here
  const std::filesystem::path probe = temporary_name(folder / "time");
  const Descriptor file{::open(probe.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
  if (file.fd < 0) throw DataError(cat(folder.string(), ": cannot be written: ", std::strerror(errno)));
  // By its descriptor: whoever tidies the folder may take the probe for a leftover.
  const auto now = std::filesystem::last_write_time(cat("/proc/self/fd/", file.fd));
  ::unlink(probe.c_str());
  return now;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes) {
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (error) throw DataError(cat(path.parent_path().string(), ": cannot be made: ", error.message()));
  const std::filesystem::path temporary = temporary_name(path);
  try {
    const Descriptor file{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
    if (file.fd < 0) throw DataError(cat(path.string(), ": cannot be written: ", std::strerror(errno)));
    write_all(file.fd, bytes, path);
    if (::fsync(file.fd) != 0) throw DataError(cat(path.string(), ": cannot be written: ", std::strerror(errno)));
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      throw DataError(cat(path.string(), ": cannot be written: ", std::strerror(errno)));
    }
  } catch (...) {
    std::filesystem::remove(temporary, error);
    throw;
  }
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file{open_for_reading(path)};
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) throw DataError(cat(path.string(), ": cannot be read: ", std::strerror(errno)));
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ == 0) throw DataError(cat(path.string(), ": the file is empty"));
  void* at = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (at == MAP_FAILED) throw DataError(cat(path.string(), ": cannot be mapped: ", std::strerror(errno)));
  data_ = static_cast<std::byte*>(at);
  count_as_mapped(data_, size_);
}

MappedFile::~MappedFile() {
  no_longer_mapped(data_);
  ::munmap(data_, size_);
}

}  // namespace mla
