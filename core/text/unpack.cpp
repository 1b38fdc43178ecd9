#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/text/byte_source.h"

namespace mla {
namespace {

constexpr std::size_t kPackedBlock = std::size_t{1} << 18;
/// Memory that an unpacker may take. xz -9 wants 65 MiB, zstd's usual limit is 128 MiB.
constexpr std::uint64_t kUnpackerMemory = std::uint64_t{512} << 20;

/// Packed bytes, a block of which waits.
class PackedSource : public ByteSource {
 public:
  PackedSource(std::unique_ptr<ByteSource> packed, std::string name, const char* format)
      : packed_(std::move(packed)), name_(std::move(name)), format_(format) {}
  std::int64_t stored_bytes() const final {
    return packed_->stored_bytes() - static_cast<std::int64_t>(waiting_.size());
  }

 protected:
  /// Puts more bytes behind those that wait; false at the end.
  bool fetch() {
    std::string next(waiting_);
    next.resize(waiting_.size() + kPackedBlock);
    const std::size_t more = packed_->read(std::span(next).subspan(waiting_.size()));
    next.resize(waiting_.size() + more);
    block_ = std::move(next);
    waiting_ = block_;
    return more > 0;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(cat(name_, ": the ", format_, " data is ", what, ", after ", unpacked_, " bytes of text"));
  }
  [[noreturn]] void fail_cut() const { fail("cut short: it ends in the middle"); }
  std::size_t give(std::size_t count) {
    unpacked_ += static_cast<std::int64_t>(count);
    return count;
  }

  std::string_view waiting_;

 private:
  std::unique_ptr<ByteSource> packed_;
  std::string name_;
  const char* format_;
  std::string block_;
  std::int64_t unpacked_ = 0;
};

class GzipBytes final : public PackedSource {
 public:
  GzipBytes(std::unique_ptr<ByteSource> packed, const std::string& name)
      : PackedSource(std::move(packed), name, "gzip") {
    constexpr int kGzipWindow = 15 + 16;  // zlib's window of 32 KiB, for data in gzip's form
    expects(inflateInit2(&stream_, kGzipWindow) == Z_OK, "zlib starts");
  }
  ~GzipBytes() override { inflateEnd(&stream_); }
  GzipBytes(const GzipBytes&) = delete;
  GzipBytes& operator=(const GzipBytes&) = delete;

  std::size_t read(std::span<char> to) override {
    const std::size_t room = std::min(to.size(), kPackedBlock);
    while (!ended_) {
      if (waiting_.empty() && !fetch()) fail_cut();
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(waiting_.data()));
      stream_.avail_in = static_cast<uInt>(waiting_.size());
      stream_.next_out = reinterpret_cast<Bytef*>(to.data());
      stream_.avail_out = static_cast<uInt>(room);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      waiting_.remove_prefix(waiting_.size() - stream_.avail_in);
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
        fail(cat("damaged: ", stream_.msg != nullptr ? stream_.msg : "unknown"));
      }
      if (status == Z_STREAM_END) next_member();
      if (const std::size_t count = room - stream_.avail_out; count > 0) return give(count);
    }
    return 0;
  }

 private:
  /// Several members may stand one after another, and zeros that fill up a block behind them, as on tapes.
  void next_member() {
    constexpr std::size_t kMagic = 2;
    while (waiting_.size() < kMagic && fetch()) continue;
    if (waiting_.starts_with("\x1F\x8B")) {
      inflateReset(&stream_);
      return;
    }
    ended_ = true;
    do {
      if (waiting_.find_first_not_of('\0') != std::string_view::npos) fail("followed by bytes that are no gzip data");
      waiting_ = {};
    } while (fetch());
  }

  z_stream stream_{};
  bool ended_ = false;
};

class ZstdBytes final : public PackedSource {
 public:
  ZstdBytes(std::unique_ptr<ByteSource> packed, const std::string& name)
      : PackedSource(std::move(packed), name, "zstd"), context_(ZSTD_createDCtx()) {
    expects(context_ != nullptr, "zstd starts");
  }
  ~ZstdBytes() override { ZSTD_freeDCtx(context_); }
  ZstdBytes(const ZstdBytes&) = delete;
  ZstdBytes& operator=(const ZstdBytes&) = delete;

  std::size_t read(std::span<char> to) override {
    for (;;) {
      if (waiting_.empty() && between_frames_ && !fetch()) return 0;
      ZSTD_inBuffer in{waiting_.data(), waiting_.size(), 0};
      ZSTD_outBuffer out{to.data(), to.size(), 0};
      const std::size_t status = ZSTD_decompressStream(context_, &out, &in);
      if (ZSTD_isError(status) != 0) fail(cat("damaged: ", ZSTD_getErrorName(status)));
      waiting_.remove_prefix(in.pos);
      between_frames_ = status == 0;
      if (out.pos > 0) return give(out.pos);
      if (waiting_.empty() && !between_frames_ && !fetch()) fail_cut();
    }
  }

 private:
  ZSTD_DCtx* context_;
  bool between_frames_ = true;
};

class XzBytes final : public PackedSource {
 public:
  XzBytes(std::unique_ptr<ByteSource> packed, const std::string& name) : PackedSource(std::move(packed), name, "xz") {
    expects(lzma_stream_decoder(&stream_, kUnpackerMemory, LZMA_CONCATENATED) == LZMA_OK, "liblzma starts");
  }
  ~XzBytes() override { lzma_end(&stream_); }
  XzBytes(const XzBytes&) = delete;
  XzBytes& operator=(const XzBytes&) = delete;

  std::size_t read(std::span<char> to) override {
    while (!ended_) {
      if (waiting_.empty() && !all_fetched_) all_fetched_ = !fetch();
      stream_.next_in = reinterpret_cast<const std::uint8_t*>(waiting_.data());
      stream_.avail_in = waiting_.size();
      stream_.next_out = reinterpret_cast<std::uint8_t*>(to.data());
      stream_.avail_out = to.size();
      const lzma_ret status = lzma_code(&stream_, all_fetched_ ? LZMA_FINISH : LZMA_RUN);
      waiting_.remove_prefix(waiting_.size() - stream_.avail_in);
      ended_ = status == LZMA_STREAM_END;
      const std::size_t count = to.size() - stream_.avail_out;
      if (status != LZMA_OK && !ended_) explain(status);
      if (count > 0) return give(count);
    }
    return 0;
  }

 private:
  [[noreturn]] void explain(lzma_ret status) const {
    if (status == LZMA_BUF_ERROR) fail_cut();
    if (status == LZMA_MEMLIMIT_ERROR || status == LZMA_MEM_ERROR) {
      fail(cat("packed with a dictionary that takes more than ", kUnpackerMemory >> 20, " MiB to unpack"));
    }
    if (status == LZMA_FORMAT_ERROR) fail("followed by bytes that are no xz data");
    if (status == LZMA_OPTIONS_ERROR) fail("packed with options that liblzma does not know");
    fail("damaged");
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool all_fetched_ = false, ended_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> unpack(Packing packing, std::unique_ptr<ByteSource> packed, const std::string& name) {
  switch (packing) {
    case Packing::kGzip:
      return std::make_unique<GzipBytes>(std::move(packed), name);
    case Packing::kZstd:
      return std::make_unique<ZstdBytes>(std::move(packed), name);
    case Packing::kXz:
      return std::make_unique<XzBytes>(std::move(packed), name);
    case Packing::kNone:
      break;
  }
  return packed;
}

}  // namespace mla
