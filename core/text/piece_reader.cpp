#include "core/text/piece_reader.h"

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::size_t kBlock = 1 << 20;

}  // namespace

PieceReader::PieceReader(std::filesystem::path path, std::string separator)
    : path_(std::move(path)), separator_(std::move(separator)) {
  std::error_code ignored;  // What keeps us from looking also keeps us from opening, and is reported then.
  if (std::filesystem::is_directory(path_, ignored)) {
    throw DataError(cat(path_.string(), ": expected a file, found a folder"));
  }
  file_.open(path_, std::ios::binary);
  if (!file_) throw DataError(cat(path_.string(), ": cannot be read: ", std::strerror(errno)));
}

/// Appends a block of the file to the buffer, whose used part is dropped; false at the end.
bool PieceReader::fill() {
  if (file_ended_) return false;
  buffer_.erase(0, begin_);
  begin_ = 0;
  const std::size_t old = buffer_.size();
  if (old > kLargestPiece) {
    throw DataError(cat(path_.string(), ": a document of more than ", kLargestPiece,
                        " bytes; name the separator between documents"));
  }
  buffer_.resize(old + kBlock);
  file_.read(buffer_.data() + old, static_cast<std::streamsize>(kBlock));
  buffer_.resize(old + static_cast<std::size_t>(file_.gcount()));
  if (file_.bad()) throw DataError(cat(path_.string(), ": cannot be read to its end"));
  file_ended_ = file_.eof();
  return true;
}

bool PieceReader::next(std::string& piece) {
  if (ended_) return false;
  std::size_t searched = 0;  // bytes after begin_ that hold no beginning of a separator
  for (;;) {
    const std::size_t found = separator_.empty() ? std::string::npos : buffer_.find(separator_, begin_ + searched);
    if (found != std::string::npos) {
      piece.assign(buffer_, begin_, found - begin_);
      consumed_ += static_cast<std::int64_t>(piece.size() + separator_.size());
      begin_ = found + separator_.size();
      return true;
    }
    const std::size_t left = buffer_.size() - begin_;
    searched = left < separator_.size() ? 0 : left - separator_.size() + 1;
    if (!fill()) break;
  }
  piece.assign(buffer_, begin_);
  consumed_ += static_cast<std::int64_t>(piece.size());
  ended_ = true;
  return true;
}

}  // namespace mla
