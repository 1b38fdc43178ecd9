#include "core/base/mapped_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mla {
namespace {

/// All ranges, by where they begin: where each ends.
struct Ranges {
  std::mutex mutex;
  std::map<const std::byte*, const std::byte*> ends;
};
Ranges& ranges() {
  static Ranges all;
  return all;
}

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

/// Whole pages: neighbours on the first and last one are in the same file, and are read again as well.
void release_pages_of(const std::byte* begin, const std::byte* end) {
  const auto address = reinterpret_cast<std::uintptr_t>(begin), first = address - address % page_size();
  ::madvise(reinterpret_cast<void*>(first), reinterpret_cast<std::uintptr_t>(end) - first, MADV_DONTNEED);
}

}  // namespace

void count_as_mapped(const void* begin, std::size_t size) {
  const auto* first = static_cast<const std::byte*>(begin);
  Ranges& all = ranges();
  const std::lock_guard lock(all.mutex);
  all.ends[first] = first + size;
}

void no_longer_mapped(const void* begin) {
  Ranges& all = ranges();
  const std::lock_guard lock(all.mutex);
  all.ends.erase(static_cast<const std::byte*>(begin));
}

bool is_mapped(const void* begin, std::size_t size) {
  const auto* first = static_cast<const std::byte*>(begin);
  Ranges& all = ranges();
  const std::lock_guard lock(all.mutex);
  const auto next = all.ends.upper_bound(first);
  return next != all.ends.begin() && first + size <= std::prev(next)->second;
}

void release_mapped(const void* begin, std::size_t size) {
  if (size == 0 || !is_mapped(begin, size)) return;
  const auto* first = static_cast<const std::byte*>(begin);
  release_pages_of(first, first + size);
}

void release_all_mapped() {
  Ranges& all = ranges();
  const std::lock_guard lock(all.mutex);
  for (const auto& [begin, end] : all.ends) release_pages_of(begin, end);
}

ScratchFile::ScratchFile(const std::filesystem::path& folder) : folder_(folder) {
  const std::filesystem::path name = temporary_name(folder / "scratch");
  fd_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd_ < 0) throw DataError(cat(folder.string(), ": cannot be written: ", std::strerror(errno)));
  ::unlink(name.c_str());
}

ScratchFile::~ScratchFile() { ::close(fd_); }

std::shared_ptr<std::byte> ScratchFile::keep(const void* bytes, std::size_t size) {
  expects(size > 0, "a piece of a scratch file has bytes");
  const auto fail = [&] {
    throw DataError(
        cat(folder_.string(), ": no room for ", size, " bytes that a conversion sets aside: ", std::strerror(errno)));
  };
  const auto* from = static_cast<const std::byte*>(bytes);
  for (std::size_t done = 0; done < size;) {
    const ssize_t written = ::pwrite(fd_, from + done, size - done, static_cast<off_t>(end_ + done));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail();
    done += static_cast<std::size_t>(written);
  }
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, static_cast<off_t>(end_));
  if (at == MAP_FAILED) fail();
  end_ += (size + page_size() - 1) / page_size() * page_size();
  count_as_mapped(at, size);
  return {static_cast<std::byte*>(at), [size](std::byte* memory) {
            no_longer_mapped(memory);
            ::munmap(memory, size);
          }};
}

}  // namespace mla
