#include "core/text/json_source.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/piece_reader.h"

namespace mla {
namespace {

constexpr std::string_view kJsonSpace = " \t\r\n";
constexpr std::size_t kJsonBlock = std::size_t{1} << 16;

bool is_empty_line(const std::string& line) { return line.find_first_not_of(kJsonSpace) == std::string::npos; }

/// The characters of a file.
class Letters {
 public:
  explicit Letters(TextFile file) : file_(std::move(file)) {}

  /// The next one, or -1 at the end.
  int next() {
    if (at_ == size_) {
      block_.resize(kJsonBlock);
      at_ = 0;
      size_ = file_.read(block_);
      if (size_ == 0) return -1;
    }
    ++position_;
    return static_cast<unsigned char>(block_[at_++]);
  }
  int next_but_space() {
    int letter = next();
    while (letter == ' ' || letter == '\t' || letter == '\r' || letter == '\n') letter = next();
    return letter;
  }

  const std::string& name() const { return file_.name(); }
  std::int64_t bytes_read() const { return file_.packed() ? file_.stored_bytes() : file_.mark_bytes() + position_; }

 private:
  TextFile file_;
  std::string block_;
  std::size_t at_ = 0, size_ = 0;
  std::int64_t position_ = 0;
};

/// The items of an array, cut at its commas.
class ArraySource final : public JsonSource {
 public:
  explicit ArraySource(TextFile file) : letters_(std::move(file)) { letters_.next_but_space(); }

  bool next(JsonText& value) override {
    if (ended_) return false;
    value.where = cat(letters_.name(), ": item ", number_);
    int letter = letters_.next_but_space();
    if (letter == ']' && number_ == 0) return end();
    std::string& text = value.text;
    text.clear();
    std::int64_t depth = 0;
    for (bool quoted = false;; letter = letters_.next()) {
      if (letter < 0) throw DataError(cat(value.where, ": the array is cut short: the file ends within it"));
      if (!quoted && depth == 0 && (letter == ',' || letter == ']')) break;
      if (text.size() == PieceReader::kLargestPiece)
        throw DataError(cat(value.where, ": an item of more than ", text.size(), " bytes"));
      text.push_back(static_cast<char>(letter));
      if (letter == '"') quoted = !quoted;
      if (quoted && letter == '\\') {
        if (const int escaped = letters_.next(); escaped >= 0) text.push_back(static_cast<char>(escaped));
      }
      if (quoted) continue;
      depth += letter == '[' || letter == '{';
      depth -= letter == ']' || letter == '}';
    }
    ++number_;
    if (letter == ']') end();
    return true;
  }

  std::int64_t bytes_read() const override { return letters_.bytes_read(); }

 private:
  /// Behind the array, the file ends.
  bool end() {
    ended_ = true;
    if (letters_.next_but_space() < 0) return false;
    throw DataError(cat(letters_.name(), ": more follows the JSON array; expected one array, or one object a line"));
  }

  Letters letters_;
  std::int64_t number_ = 0;
  bool ended_ = false;
};

/// How deep values lie in each other where some text ends.
struct Nesting {
  std::int64_t depth = 0;
  bool quoted = false;
  void add(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '"') quoted = !quoted;
      if (quoted) {
        i += text[i] == '\\';
        continue;
      }
      depth += text[i] == '[' || text[i] == '{';
      depth -= text[i] == ']' || text[i] == '}';
    }
  }
};

class LineSource final : public JsonSource {
 public:
  explicit LineSource(TextFile file) : lines_(std::move(file), "\n") {}

  bool next(JsonText& value) override {
    while (lines_.next(value.text)) {
      ++number_;
      if (is_empty_line(value.text)) continue;
      value.where = cat(lines_.file().name(), ": line ", number_);
      if (first_) join_if_one(value.text);
      first_ = false;
      return true;
    }
    return false;
  }

  std::int64_t bytes_read() const override { return lines_.bytes_read(); }

 private:
  /// An object that is written over several lines breaks them behind a bracket or a comma. A name that promises one
  /// object a line is believed: there, such a line is damaged.
  void join_if_one(std::string& text) {
    const std::string extension = lines_.file().extension();
    const std::size_t last = text.find_last_not_of(kJsonSpace);
    if (extension == ".jsonl" || std::string_view("{[,:").find(text[last]) == std::string_view::npos) return;
    Nesting nesting;
    nesting.add(text);
    for (std::string line; nesting.depth > 0 && !nesting.quoted && lines_.next(line); ++number_) {
      if (text.size() > PieceReader::kLargestPiece) {
        throw DataError(cat(lines_.file().name(), ": an object of more than ", text.size(), " bytes"));
      }
      nesting.add(line);
      text += '\n' + line;
    }
  }

  PieceReader lines_;
  std::int64_t number_ = 0;
  bool first_ = true;
};

/// Goes through one object until it has met the key "ids", and tells whether its value is an array.
class IdsSearch : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool found = false;

  bool start_object(std::size_t) override { return plain() && ++depth_ > 0; }
  bool end_object() override { return --depth_ > 0; }
  bool start_array(std::size_t) override {
    found = depth_ == 1 && at_ids_;
    return plain() && ++depth_ > 0;
  }
  bool end_array() override { return --depth_ > 0; }
  bool key(string_t& key) override {
    at_ids_ = depth_ == 1 && key == "ids";
    return true;
  }
  bool null() override { return plain(); }
  bool boolean(bool) override { return plain(); }
  bool number_integer(number_integer_t) override { return plain(); }
  bool number_unsigned(number_unsigned_t) override { return plain(); }
  bool number_float(number_float_t, const string_t&) override { return plain(); }
  bool string(string_t&) override { return plain(); }
  bool binary(binary_t&) override { return plain(); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

 private:
  /// Whether to go on behind a value: not where it was that of "ids".
  bool plain() const { return !(depth_ == 1 && at_ids_); }
  std::int64_t depth_ = 0;
  bool at_ids_ = false;
};

/// The letters of a file for a parser.
class LetterIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;

  LetterIterator() = default;
  explicit LetterIterator(Letters& letters) : letters_(&letters), now_(letters.next()) {}
  char operator*() const { return static_cast<char>(now_); }
  LetterIterator& operator++() {
    now_ = letters_->next();
    return *this;
  }
  bool operator==(const LetterIterator& other) const { return (now_ < 0) == (other.now_ < 0); }
  bool operator!=(const LetterIterator& other) const { return !(*this == other); }

 private:
  Letters* letters_ = nullptr;
  int now_ = -1;
};

}  // namespace

std::unique_ptr<JsonSource> open_json(TextFile file) {
  const std::size_t first = file.head().find_first_not_of(kJsonSpace);
  if (first != std::string_view::npos && file.head()[first] == '[')
    return std::make_unique<ArraySource>(std::move(file));
  return std::make_unique<LineSource>(std::move(file));
}

std::unique_ptr<JsonSource> open_json(const std::filesystem::path& file) { return open_json(TextFile(file)); }

bool holds_ids_object(const std::filesystem::path& file) {
  TextFile text(file);
  const std::size_t first = text.head().find_first_not_of(kJsonSpace);
  if (first == std::string_view::npos || text.head()[first] != '{') return false;
  Letters letters(std::move(text));
  IdsSearch search;
  nlohmann::json::sax_parse(LetterIterator(letters), LetterIterator(), &search);
  return search.found;
}

}  // namespace mla
