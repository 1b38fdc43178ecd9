#include "core/base/atomic_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mla {
namespace {

constexpr std::size_t kAlignment = 4096;         // of memory and file offsets, for O_DIRECT
constexpr std::size_t kBlock = 8 * 1024 * 1024;  // a multiple of it

}  // namespace

void AtomicWriter::FreeAligned::operator()(std::byte* memory) const { std::free(memory); }

AtomicWriter::AtomicWriter(const std::filesystem::path& target) : target_(target), temporary_(temporary_name(target)) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
  fd_ = ::open(temporary_.c_str(), kFlags | O_DIRECT, 0644);
  direct_ = fd_ >= 0;
  if (!direct_) fd_ = ::open(temporary_.c_str(), kFlags, 0644);
  if (fd_ < 0) fail();
  block_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, kBlock)));
  if (!block_) throw std::bad_alloc();
}

AtomicWriter::~AtomicWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void AtomicWriter::fail() const {
  throw DataError(cat(target_.string(), ": cannot be written: ", std::strerror(errno)));
}

void AtomicWriter::write(const void* bytes, std::size_t count) {
  const auto* from = static_cast<const std::byte*>(bytes);
  while (count > 0) {
    const std::size_t part = std::min(count, kBlock - filled_);
    std::memcpy(block_.get() + filled_, from, part);
    filled_ += part;
    from += part;
    count -= part;
    if (filled_ == kBlock) flush(kBlock);
  }
}

void AtomicWriter::write_through_cache() {
  if (direct_ && ::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) & ~O_DIRECT) != 0) fail();
  direct_ = false;
}

void AtomicWriter::flush(std::size_t count) {
  if (count % kAlignment != 0) write_through_cache();
  for (std::size_t done = 0; done < count;) {
    const ssize_t written = ::write(fd_, block_.get() + done, count - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && direct_ && errno == EINVAL) {
      write_through_cache();  // a file system that takes the flag but not the writes
      continue;
    }
    if (written < 0) fail();
    done += static_cast<std::size_t>(written);
    if (done % kAlignment != 0) write_through_cache();
  }
  filled_ = 0;
}

void AtomicWriter::overwrite(std::uint64_t offset, const void* bytes, std::size_t count) {
  if (filled_ > 0) flush(filled_);
  write_through_cache();
  const auto* from = static_cast<const std::byte*>(bytes);
  for (std::size_t done = 0; done < count;) {
    const ssize_t written = ::pwrite(fd_, from + done, count - done, static_cast<off_t>(offset + done));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail();
    done += static_cast<std::size_t>(written);
  }
}

void AtomicWriter::complete() {
  if (filled_ > 0) flush(filled_);
  block_.reset();  // many complete files may wait to be renamed together
  if (::fsync(fd_) != 0) fail();
}

void AtomicWriter::finish(const std::function<void()>& before_rename) {
  complete();
  if (before_rename) before_rename();
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail();
  ::close(fd_);
  fd_ = -1;
}

}  // namespace mla
