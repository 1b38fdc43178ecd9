// Taking numbers and strings from the bytes of a file, one after another, never beyond its end.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/gguf/block_fields.h"

namespace mla::gguf {

class ByteReader {
 public:
  explicit ByteReader(const MappedFile& file) : file_(file) {}

  std::size_t position() const { return at_; }
  std::size_t left() const { return file_.size() - at_; }
  const std::byte* here() const { return file_.data() + at_; }

  /// `what` names the thing in the error that a file which is too short is answered with.
  void skip(std::uint64_t bytes, std::string_view what) {
    if (bytes > left()) {
      throw DataError(cat(file_.path().string(), ": truncated: ", what, " needs ", bytes, " bytes at byte ", at_,
                          ", the file has ", left(), " more"));
    }
    at_ += static_cast<std::size_t>(bytes);
  }

  template <class Number>
  Number number(std::string_view what) {
    const std::byte* from = here();
    skip(sizeof(Number), what);
    return load<Number>(from);
  }

  std::string_view string(std::string_view what) {
    const auto length = number<std::uint64_t>(what);
    const auto* from = reinterpret_cast<const char*>(here());
    skip(length, what);
    return {from, static_cast<std::size_t>(length)};
  }

 private:
  const MappedFile& file_;
  std::size_t at_ = 0;
};

}  // namespace mla::gguf
