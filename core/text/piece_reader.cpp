#include "core/text/piece_reader.h"

#include <span>
#include <utility>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::size_t kBlock = 1 << 16;

}  // namespace

PieceReader::PieceReader(const std::filesystem::path& path, std::string separator)
    : PieceReader(TextFile(path), std::move(separator)) {}

PieceReader::PieceReader(TextFile file, std::string separator)
    : file_(std::move(file)), separator_(std::move(separator)), consumed_(file_.mark_bytes()) {}

/// Appends a block of the file to the buffer, whose used part is dropped; false at the end.
bool PieceReader::fill() {
  if (file_ended_) return false;
  buffer_.erase(0, begin_);
  begin_ = 0;
  const std::size_t old = buffer_.size();
  if (old > kLargestPiece) {
    throw DataError(
        cat(file_.name(), ": a document of more than ", kLargestPiece, " bytes; name the separator between documents"));
  }
  buffer_.resize(old + kBlock);
  std::size_t size = old;
  while (size < buffer_.size() && !file_ended_) {
    const std::size_t count = file_.read(std::span(buffer_).subspan(size));
    size += count;
    file_ended_ = count == 0;
  }
  buffer_.resize(size);
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
