#include "core/text/byte_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/base/error.h"

namespace mla {
namespace {

class FileBytes final : public ByteSource {
 public:
  explicit FileBytes(const std::filesystem::path& path) : name_(path.string()) {
    std::error_code ignored;  // What keeps us from looking also keeps us from opening, and is reported then.
    if (std::filesystem::is_directory(path, ignored)) throw DataError(cat(name_, ": expected a file, found a folder"));
    file_.open(path, std::ios::binary);
    if (!file_) throw DataError(cat(name_, ": cannot be read: ", std::strerror(errno)));
  }

  std::size_t read(std::span<char> to) override {
    if (file_.eof()) return 0;
    file_.read(to.data(), std::ssize(to));
    if (file_.bad()) throw DataError(cat(name_, ": cannot be read to its end"));
    read_ += file_.gcount();
    return static_cast<std::size_t>(file_.gcount());
  }
  std::int64_t stored_bytes() const override { return read_; }

 private:
  std::string name_;
  std::ifstream file_;
  std::int64_t read_ = 0;
};

/// Some bytes, and then those of another source, if there is one.
class BytesBefore final : public ByteSource {
 public:
  BytesBefore(std::string bytes, std::unique_ptr<ByteSource> rest) : bytes_(std::move(bytes)), rest_(std::move(rest)) {}

  std::size_t read(std::span<char> to) override {
    if (at_ == bytes_.size()) return rest_ ? rest_->read(to) : 0;
    const std::size_t count = bytes_.copy(to.data(), to.size(), at_);
    at_ += count;
    return count;
  }
  std::int64_t stored_bytes() const override {
    const auto waiting = static_cast<std::int64_t>(bytes_.size() - at_);
    return rest_ ? std::max<std::int64_t>(0, rest_->stored_bytes() - waiting) : static_cast<std::int64_t>(at_);
  }

 private:
  std::string bytes_;
  std::unique_ptr<ByteSource> rest_;
  std::size_t at_ = 0;
};

}  // namespace

std::unique_ptr<ByteSource> open_file(const std::filesystem::path& path) { return std::make_unique<FileBytes>(path); }

std::unique_ptr<ByteSource> bytes_in_memory(std::string bytes) {
  return std::make_unique<BytesBefore>(std::move(bytes), nullptr);
}

std::unique_ptr<ByteSource> put_back(std::string head, std::unique_ptr<ByteSource> rest) {
  return std::make_unique<BytesBefore>(std::move(head), std::move(rest));
}

std::string read_head(ByteSource& source, std::size_t count) {
  std::string head(count, '\0');
  std::size_t got = 0;
  while (got < count) {
    const std::size_t more = source.read(std::span(head).subspan(got));
    if (more == 0) break;
    got += more;
  }
  head.resize(got);
  return head;
}

Packing packing_of(std::string_view head) {
  if (head.starts_with("\x1F\x8B")) return Packing::kGzip;
  if (head.starts_with("\x28\xB5\x2F\xFD")) return Packing::kZstd;
  // A frame that decoders skip may stand in front, as pzstd writes it.
  const bool skippable = head.size() >= 4 && head.substr(1, 3) == "\x2A\x4D\x18" && (head[0] & 0xF0) == 0x50;
  if (skippable) return Packing::kZstd;
  if (head.starts_with(std::string_view("\xFD\x37zXZ\0", 6))) return Packing::kXz;
  return Packing::kNone;
}

}  // namespace mla
