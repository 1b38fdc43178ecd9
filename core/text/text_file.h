// The one way in which files of text are opened: unpacked where they are packed, refused where they are no text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/text/byte_source.h"

namespace mla {

/// The bytes of a text file from its beginning to its end. What begins as gzip, zstd or xz does is unpacked on the way,
/// whatever its name. A UTF-8 byte order mark is left out.
///
/// Bytes that make no UTF-8, and zero bytes, are counted: where they are more than one in 200 of some 64 KiB (and more
/// than one) the file is refused, otherwise a warning at its end tells how many there were.
class TextFile {
 public:
  /// Throws DataError naming the file when it cannot be opened; for a kind of file that is no text, naming the kind and
  /// what makes text of it; and for a name that ends as those of packed files do where the file is not packed so.
  explicit TextFile(const std::filesystem::path& path);
  /// Of bytes that came from elsewhere; `name` stands for them in errors.
  TextFile(std::string bytes, std::string name);

  /// Fills the front of `to`; returns how many bytes, 0 only at the end. Throws DataError where the file cannot be read
  /// or unpacked, and for one that is mostly no UTF-8.
  std::size_t read(std::span<char> to);

  const std::string& name() const { return name_; }
  /// The name's last extension; of a packed file the one before ".gz".
  std::string extension() const;
  bool packed() const { return packed_; }
  /// Bytes read so far of what lies on the disk.
  std::int64_t stored_bytes() const { return source_->stored_bytes(); }
  /// Bytes of the byte order mark that was left out.
  std::int64_t mark_bytes() const { return mark_bytes_; }
  /// The first bytes of the text, some thousands where there are so many; not read by looking at them.
  std::string_view head() const { return head_; }

 private:
  void open(std::unique_ptr<ByteSource> source, std::string_view file_name);
  void watch(std::string_view block);
  void judge(std::int64_t bytes);
  void count_odd(std::size_t offset, std::size_t size, const char* what);
  void finish();

  std::string name_, head_;
  bool packed_ = false, ended_ = false;
  std::int64_t mark_bytes_ = 0;
  std::unique_ptr<ByteSource> source_;

  std::string unfinished_;    ///< the beginning of a character at the end of the last block
  std::int64_t watched_ = 0;  ///< bytes before it
  std::int64_t odd_ = 0, judged_ = 0, new_odd_ = 0, first_odd_ = -1;  ///< new: since `judged_` bytes
  std::string first_what_;
};

/// "a.jsonl" of "a.jsonl.gz": by what is in a file, it has the extension of that name.
std::filesystem::path content_extension(const std::filesystem::path& path);

/// A whole text file. Throws DataError as TextFile does, and for more than `most` bytes.
std::string read_text_file(const std::filesystem::path& file, std::size_t most = std::size_t{1} << 30);

/// The same of bytes that came from elsewhere.
std::string read_text_bytes(std::string bytes, const std::string& name);

}  // namespace mla
