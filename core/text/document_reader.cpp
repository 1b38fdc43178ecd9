#include "core/text/document_reader.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/text/char_class.h"
#include "core/text/document_text.h"
#include "core/text/piece_reader.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// Cuts at every occurrence of `separator`; none when it is empty.
std::vector<std::string> split_at(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (!separator.empty()) {
    const std::size_t end = text.find(separator, begin);
    if (end == std::string::npos) break;
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

bool is_space_code(char32_t code) { return CharClasses::instance()[code] == CharClass::kSpace; }

/// The words of `line` with one space between them.
std::string single_spaced(std::string_view line) {
  std::string out;
  bool space_waits = false;
  for (std::size_t at = 0; at < line.size();) {
    const CodePoint here = read_utf8(line.data() + at);
    if (is_space_code(here.value)) {
      space_waits = !out.empty();
    } else {
      if (space_waits) out.push_back(' ');
      space_waits = false;
      out.append(line.substr(at, here.size));
    }
    at += here.size;
  }
  return out;
}

std::string normalize_lines(const std::string& text) {
  std::string out;
  for (const std::string& line : split_at(text, "\n")) {
    const std::string words = single_spaced(line);
    if (words.empty()) continue;
    if (!out.empty()) out.push_back('\n');
    out += words;
  }
  return out;
}

bool is_blank(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); at += utf8_size(text[at])) {
    if (!is_space_code(read_utf8(text.data() + at).value)) return false;
  }
  return true;
}

}  // namespace

class DocumentReader::Source {
 public:
  virtual ~Source() = default;
  virtual bool next(std::string& text) = 0;
  virtual std::int64_t bytes_read() const = 0;
  virtual std::int64_t skipped() const { return 0; }
};

namespace {

/// What a file that is read as plain text seems to be, and how its texts are had; empty: nothing else.
std::string other_reading(const fs::path& path, std::string_view head) {
  const std::string first(head.substr(0, head.find('\n')));
  if (first.size() < head.size() && first.starts_with("{\"") && nlohmann::json::accept(first)) {
    return "looks like JSON lines; with the extension .jsonl, their texts are read";
  }
  const auto begins = [&](std::string_view with) {
    return head.size() >= with.size() && std::equal(with.begin(), with.end(), head.begin(), [](char a, char b) {
             return a == std::tolower(static_cast<unsigned char>(b));
           });
  };
  if (begins("[{\"") || begins("[\"")) return "looks like a JSON array; with the extension .json, its texts are read";
  if (begins("<!doctype html") || begins("<html") || begins("<?xml")) {
    return "looks like a page with markup; extract its text first, for example with pandoc";
  }
  const std::string extension = content_extension(path).string();
  if (extension == ".csv" || extension == ".tsv") {
    return cat("is named as a table; as JSON lines, for example by pandas' to_json(FILE, orient=\"records\", ",
               "lines=True), one column's texts are read");
  }
  return "";
}

class PlainText final : public DocumentReader::Source {
 public:
  PlainText(const fs::path& path, const std::string& separator) : pieces_(path, separator) {
    if (const std::string other = other_reading(path, pieces_.file().head()); !other.empty()) {
      log_warning(cat(path.string(), ": read as text, although it ", other));
    }
  }
  bool next(std::string& text) override { return pieces_.next(text); }
  std::int64_t bytes_read() const override { return pieces_.bytes_read(); }

 private:
  PieceReader pieces_;
};

/// The texts of JSON values.
class JsonTexts final : public DocumentReader::Source {
 public:
  JsonTexts(const fs::path& path, const DocumentOptions& options)
      : values_(open_json(path)), name_(path.string()), field_(options.jsonl_field), skips_(options.skip_bad_lines) {}

  bool next(std::string& text) override {
    for (JsonText value; values_->next(value); ++read_) {
      try {
        text = text_of(value, field_);
        ++read_;
        return true;
      } catch (const DataError& error) {
        if (!skips_) throw;
        if (skipped_++ == 0) first_skipped_ = error.what();
      }
    }
    if (skipped_ > told_) {
      log_warning(cat(skipped_, " of ", read_, " JSON values left out (skip_bad_lines); the first: ", first_skipped_));
      told_ = skipped_;
    }
    return false;
  }
  std::int64_t bytes_read() const override { return values_->bytes_read(); }
  std::int64_t skipped() const override { return skipped_; }

 private:
  std::unique_ptr<JsonSource> values_;
  std::string name_, field_, first_skipped_;
  bool skips_;
  std::int64_t read_ = 0, skipped_ = 0, told_ = 0;
};

std::unique_ptr<DocumentReader::Source> open_texts(const fs::path& path, const DocumentOptions& options) {
  if (holds_json(path)) return std::make_unique<JsonTexts>(path, options);
  return std::make_unique<PlainText>(path, options.separator);
}

}  // namespace

bool holds_json(const fs::path& file) {
  const std::string extension = content_extension(file).string();
  return extension == ".json" || extension == ".jsonl" || extension == ".ndjson" || extension == ".jsonlines";
}

DocumentReader::DocumentReader(const fs::path& path, const DocumentOptions& options)
    : options_(options), texts_(open_texts(path, options)) {}
DocumentReader::~DocumentReader() = default;

bool DocumentReader::next(std::string& document) {
  std::string text;
  for (;;) {
    while (waiting_.empty()) {
      if (!texts_->next(text)) return false;
      waiting_ = split_at(replace_invalid_utf8(text), options_.separator);
      std::reverse(waiting_.begin(), waiting_.end());
    }
    document = std::move(waiting_.back());
    waiting_.pop_back();
    if (options_.normalize_whitespace) document = normalize_lines(document);
    if (!is_blank(document)) return true;
  }
}

std::int64_t DocumentReader::skipped() const { return texts_->skipped(); }
std::int64_t DocumentReader::bytes_read() const { return texts_->bytes_read(); }

}  // namespace mla
