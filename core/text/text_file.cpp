#include "core/text/text_file.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/text/file_kind.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
/// One odd byte in that many is too much, over that many bytes.
constexpr std::int64_t kTextPerOdd = 200, kJudgedTogether = std::int64_t{1} << 16;
constexpr std::size_t kLongestCharacter = 4;
constexpr std::size_t kTextBlock = std::size_t{1} << 20;

std::string hexadecimal(unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return {'0', 'x', kDigits[byte / 16], kDigits[byte % 16]};
}

/// Whether `text`, which is no whole character, may become one when more bytes come.
bool may_go_on(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t size = lead >= 0xF0 && lead < 0xF5 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
  if (lead >= 0xF5 || text.size() >= size) return false;
  return std::all_of(text.begin() + 1, text.end(),
                     [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; });
}

std::string whole_text(TextFile& file, std::size_t most) {
  std::string text;
  for (std::string block(kTextBlock, '\0');;) {
    const std::size_t count = file.read(block);
    if (count == 0) return text;
    if (text.size() + count > most) {
      throw DataError(cat(file.name(), ": more than ", most, " bytes of text, which is more than is read at once"));
    }
    text.append(block, 0, count);
  }
}

}  // namespace

TextFile::TextFile(const std::filesystem::path& path) : name_(path.string()) {
  open(open_file(path), path.filename().string());
}

TextFile::TextFile(std::string bytes, std::string name) : name_(std::move(name)) {
  open(bytes_in_memory(std::move(bytes)), "");
}

void TextFile::open(std::unique_ptr<ByteSource> source, std::string_view file_name) {
  std::string head = read_head(*source, kFileHead);
  const Packing packing = packing_of(head);
  packed_ = packing != Packing::kNone;
  source = put_back(head, std::move(source));
  if (packed_) {
    source = unpack(packing, std::move(source), name_);
    head = read_head(*source, kFileHead);
    source = put_back(head, std::move(source));
  }
  if (const auto kind = file_kind(head)) {
    throw DataError(
        cat(name_, packed_ ? ": packed, and in it " : ": ", kind->name, ", not UTF-8 text; ", kind->advice));
  }
  if (const std::string format = promised_packing(file_name); !format.empty() && !packed_) {
    throw DataError(cat(name_, ": named as a ", format, " file, but does not begin as one; rename it if it is text"));
  }
  if (head.starts_with(kByteOrderMark)) {
    head.erase(0, kByteOrderMark.size());
    mark_bytes_ = static_cast<std::int64_t>(kByteOrderMark.size());
    std::string mark(kByteOrderMark.size(), '\0');
    source->read(mark);
    log_info(cat(name_, ": begins with a byte order mark, which is left out"));
  }
  head_ = std::move(head);
  source_ = std::move(source);
}

std::size_t TextFile::read(std::span<char> to) {
  if (ended_) return 0;
  const std::size_t count = source_->read(to);
  if (count == 0) {
    finish();
  } else {
    watch({to.data(), count});
  }
  return count;
}

void TextFile::count_odd(std::size_t offset, std::size_t size, const char* what) {
  new_odd_ += static_cast<std::int64_t>(size);
  if (first_odd_ >= 0) return;
  first_odd_ = watched_ + mark_bytes_ + static_cast<std::int64_t>(offset);
  first_what_ = what;
}

void TextFile::watch(std::string_view block) {
  std::string joined;
  if (!unfinished_.empty()) {
    joined = unfinished_;
    joined.append(block);
    block = joined;
  }
  std::size_t at = 0;
  for (std::size_t zero = block.find('\0'); zero != std::string_view::npos; zero = block.find('\0', zero + 1)) {
    count_odd(zero, 1, "a zero byte");
  }
  std::string rest;
  while (at < block.size()) {
    at += valid_utf8_prefix(block.substr(at));
    const std::string_view tail = block.substr(at);
    if (tail.empty()) break;
    if (tail.size() < kLongestCharacter && may_go_on(tail)) {
      rest = tail;
      break;
    }
    count_odd(at, 1, "not UTF-8");
    if (first_odd_ == watched_ + mark_bytes_ + static_cast<std::int64_t>(at)) {
      first_what_ = hexadecimal(static_cast<unsigned char>(tail[0]));
    }
    ++at;
  }
  watched_ += static_cast<std::int64_t>(block.size() - rest.size());
  unfinished_ = std::move(rest);
  if (watched_ - judged_ >= kJudgedTogether) judge(watched_ - judged_);
}

/// Refuses the file when too many of these last `bytes` were odd.
void TextFile::judge(std::int64_t bytes) {
  if (new_odd_ > 1 && new_odd_ * kTextPerOdd > bytes) {
    throw DataError(cat(name_, ": not UTF-8 text: ", new_odd_, " of ", bytes,
                        " bytes are not UTF-8 or zero, the first (", first_what_, ") at byte ", first_odd_,
                        packed_ ? " of what it unpacks to" : "",
                        "; convert it, for example with iconv -f LATIN1 -t UTF-8"));
  }
  odd_ += new_odd_;
  new_odd_ = 0;
  judged_ = watched_;
}

void TextFile::finish() {
  ended_ = true;
  if (!unfinished_.empty()) count_odd(0, unfinished_.size(), "a character cut short");
  watched_ += std::ssize(unfinished_);
  if (unfinished_.size() < static_cast<std::size_t>(new_odd_))
    judge(std::max(watched_ - judged_, std::min(watched_, kJudgedTogether)));
  odd_ += std::exchange(new_odd_, 0);
  if (odd_ == 0) return;
  log_warning(cat(name_, ": ", odd_, odd_ == 1 ? " byte is" : " bytes are",
                  " not UTF-8 (read as U+FFFD) or zero; the first (", first_what_, ") is byte ", first_odd_,
                  packed_ ? " of what it unpacks to" : ""));
}

std::filesystem::path content_extension(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  return std::filesystem::path(unpacked_name(name)).extension();
}

std::string TextFile::extension() const { return content_extension(name_).string(); }

std::string read_text_file(const std::filesystem::path& file, std::size_t most) {
  TextFile text(file);
  return whole_text(text, most);
}

std::string read_text_bytes(std::string bytes, const std::string& name) {
  const std::size_t all = std::string().max_size();
  TextFile text(std::move(bytes), name);
  return whole_text(text, all);
}

}  // namespace mla
