// Reading a file of any size piece by piece, cut at a separator.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/text/text_file.h"

namespace mla {

/// The stretches of a text file (core/text/text_file.h) between occurrences of a separator, in order; memory holds one
/// of them and one block.
class PieceReader {
 public:
  /// An empty separator: the whole file is one piece. Throws DataError as TextFile does.
  PieceReader(const std::filesystem::path& path, std::string separator);
  PieceReader(TextFile file, std::string separator);

  /// The next piece, which may be empty; false at the end of the file. What follows the last separator is a piece too.
  /// Throws DataError when the file cannot be read, and for a piece of more than `kLargestPiece` bytes.
  bool next(std::string& piece);

  /// Bytes of the file behind the pieces handed out.
  std::int64_t bytes_read() const { return file_.packed() ? file_.stored_bytes() : consumed_; }

  const TextFile& file() const { return file_; }

  static constexpr std::size_t kLargestPiece = std::size_t{1} << 30;

 private:
  bool fill();

  TextFile file_;
  std::string separator_, buffer_;
  std::size_t begin_ = 0;  ///< of what is not yet handed out, in buffer_
  bool file_ended_ = false, ended_ = false;
  std::int64_t consumed_ = 0;
};

}  // namespace mla
