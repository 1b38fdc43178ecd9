#include "core/text/document_reader.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/char_class.h"
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
};

namespace {

class PlainText final : public DocumentReader::Source {
 public:
  PlainText(const fs::path& path, const std::string& separator) : pieces_(path, separator) {}
  bool next(std::string& text) override { return pieces_.next(text); }
  std::int64_t bytes_read() const override { return pieces_.bytes_read(); }

 private:
  PieceReader pieces_;
};

class JsonLines final : public DocumentReader::Source {
 public:
  JsonLines(const fs::path& path, std::string field)
      : lines_(path, "\n"), name_(path.string()), field_(std::move(field)) {}
  bool next(std::string& text) override {
    std::string line;
    while (lines_.next(line)) {
      ++number_;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      text = field_of(line);
      return true;
    }
    return false;
  }
  std::int64_t bytes_read() const override { return lines_.bytes_read(); }

 private:
  std::string field_of(const std::string& line) const {
    const std::string where = cat(name_, ": line ", number_);
    const Json json = parse_json(line, where);
    if (!json.is_object() || !json.contains(field_) || !json.at(field_).is_string()) {
      throw DataError(cat(where, ": expected an object with a string '", field_, "', found ", kind_of(json)));
    }
    return json.at(field_).get<std::string>();
  }

  PieceReader lines_;
  std::string name_, field_;
  std::int64_t number_ = 0;
};

class JsonArray final : public DocumentReader::Source {
 public:
  explicit JsonArray(const fs::path& path) : name_(path.string()), json_(read_json(path)) {
    if (!json_.is_array()) throw DataError(cat(name_, ": expected an array of strings, found ", kind_of(json_)));
    size_ = static_cast<std::int64_t>(fs::file_size(path));
  }
  bool next(std::string& text) override {
    if (item_ == json_.size()) return false;
    if (!json_[item_].is_string()) {
      throw DataError(cat(name_, ": item ", item_, ": expected a string, found ", kind_of(json_[item_])));
    }
    text = json_[item_++].get<std::string>();
    return true;
  }
  std::int64_t bytes_read() const override { return item_ == json_.size() ? size_ : 0; }

 private:
  std::string name_;
  Json json_;
  std::size_t item_ = 0;
  std::int64_t size_ = 0;
};

std::unique_ptr<DocumentReader::Source> open_texts(const fs::path& path, const DocumentOptions& options) {
  if (path.extension() == ".jsonl") return std::make_unique<JsonLines>(path, options.jsonl_field);
  if (path.extension() == ".json") return std::make_unique<JsonArray>(path);
  return std::make_unique<PlainText>(path, options.separator);
}

}  // namespace

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

std::int64_t DocumentReader::bytes_read() const { return texts_->bytes_read(); }

}  // namespace mla
