#include "core/text/token_stream.h"

#include <algorithm>

#include "core/base/error.h"

namespace mla {
namespace {

/// The part that holds `item`, when part i begins at begins[i].
std::size_t part_of(const std::vector<std::int64_t>& begins, std::int64_t item) {
  const auto behind = std::upper_bound(begins.begin(), begins.end(), item);
  return static_cast<std::size_t>(behind - begins.begin()) - 1;
}

}  // namespace

std::int64_t document_of(const TokenStream& stream, std::int64_t token) {
  expects(token >= 0 && token < stream.tokens(), "a token outside the stream");
  std::int64_t first = 0, count = stream.documents();
  while (count > 1) {
    const std::int64_t half = count / 2;
    if (stream.document_begin(first + half) <= token) {
      first += half;
      count -= half;
    } else {
      count = half;
    }
  }
  return first;
}

void TokenStream::read_scored(std::int64_t begin, std::span<std::uint8_t> out) const {
  expects(begin >= 0 && begin + std::ssize(out) <= tokens(), "tokens outside the stream");
  std::fill(out.begin(), out.end(), std::uint8_t{1});
}

MemoryTokens::MemoryTokens(const std::vector<std::vector<std::int32_t>>& documents) {
  for (const auto& document : documents) {
    tokens_.insert(tokens_.end(), document.begin(), document.end());
    begins_.push_back(tokens());
  }
}

void MemoryTokens::read(std::int64_t begin, std::span<std::int32_t> out) const {
  expects(begin >= 0 && begin + std::ssize(out) <= tokens(), "tokens outside the stream");
  std::copy_n(tokens_.begin() + begin, out.size(), out.begin());
}

MemoryTokens::MemoryTokens(const std::vector<std::vector<std::int32_t>>& documents,
                           const std::vector<std::vector<std::uint8_t>>& scored)
    : MemoryTokens(documents) {
  for (const auto& document : scored) scored_.insert(scored_.end(), document.begin(), document.end());
  expects(scored_.size() == tokens_.size(), "each token is scored or not");
}

void MemoryTokens::read_scored(std::int64_t begin, std::span<std::uint8_t> out) const {
  if (scored_.empty()) return TokenStream::read_scored(begin, out);
  expects(begin >= 0 && begin + std::ssize(out) <= tokens(), "tokens outside the stream");
  std::copy_n(scored_.begin() + begin, out.size(), out.begin());
}

JoinedTokens::JoinedTokens(std::vector<std::shared_ptr<const TokenStream>> parts) : parts_(std::move(parts)) {
  expects(!parts_.empty(), "nothing to join");
  for (const auto& part : parts_) {
    first_token_.push_back(first_token_.back() + part->tokens());
    first_document_.push_back(first_document_.back() + part->documents());
  }
}

std::int64_t JoinedTokens::document_begin(std::int64_t index) const {
  if (index == documents()) return tokens();
  const std::size_t part = part_of(first_document_, index);
  return first_token_[part] + parts_.at(part)->document_begin(index - first_document_[part]);
}

template <class T, class Read>
void JoinedTokens::by_parts(std::int64_t begin, std::span<T> out, const Read& read) const {
  while (!out.empty()) {
    const std::size_t part = part_of(first_token_, begin);
    const auto here = std::min<std::int64_t>(std::ssize(out), first_token_.at(part + 1) - begin);
    read(*parts_[part], begin - first_token_[part], out.first(static_cast<std::size_t>(here)));
    out = out.subspan(static_cast<std::size_t>(here));
    begin += here;
  }
}

void JoinedTokens::read(std::int64_t begin, std::span<std::int32_t> out) const {
  by_parts(begin, out, [](const TokenStream& part, std::int64_t at, auto some) { part.read(at, some); });
}

bool JoinedTokens::scores_all() const {
  return std::all_of(parts_.begin(), parts_.end(), [](const auto& part) { return part->scores_all(); });
}

void JoinedTokens::read_scored(std::int64_t begin, std::span<std::uint8_t> out) const {
  by_parts(begin, out, [](const TokenStream& part, std::int64_t at, auto some) { part.read_scored(at, some); });
}

}  // namespace mla
