// Reading the documents of a file one after another.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace mla {

/// How a text file is cut into documents.
struct DocumentOptions {
  std::string separator = "";
  bool normalize_whitespace = false;
  std::string jsonl_field = "text";
  bool skip_bad_lines = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("separator", self.separator,
          "text between documents, for example <|endoftext|>; empty: a file is one document");
    visit("normalize_whitespace", self.normalize_whitespace,
          "strip each line, make runs of white space inside it one space, and drop empty lines");
    visit("jsonl_field", self.jsonl_field, "the field of each JSON object that holds the text");
    visit("skip_bad_lines", self.skip_bad_lines,
          "leave out, and count, JSON lines or items that cannot be read or lack the field; false: stop at the first");
  }
};

/// Whether a file holds JSON values rather than text: named .json, .jsonl, .ndjson or .jsonlines, packed or not.
bool holds_json(const std::filesystem::path& file);

/// The documents of one file, one after another. `.json` and `.jsonl` (or .ndjson, .jsonlines): an array, or one value
/// a line (core/text/json_source.h); each value is a string, or an object whose field jsonl_field is one. Anything else
/// is text. Files may be packed, and are refused where they are no text (core/text/text_file.h). Read piece by piece:
/// memory holds one document, however large the file is. Bytes that are not UTF-8 become U+FFFD; documents of white
/// space only are left out.
class DocumentReader {
 public:
  /// Throws DataError when the file cannot be read or is no text.
  DocumentReader(const std::filesystem::path& path, const DocumentOptions& options);
  ~DocumentReader();

  /// The next document; false when there is none. Throws DataError naming the file and the line or item.
  bool next(std::string& document);

  /// Lines or items left out so far under `skip_bad_lines`.
  std::int64_t skipped() const;

  /// Bytes of the file behind the documents handed out.
  std::int64_t bytes_read() const;

  /// One text of a file, before it is cut into documents.
  class Source;

 private:
  DocumentOptions options_;
  std::unique_ptr<Source> texts_;
  std::vector<std::string> waiting_;  ///< documents of the last text, the next one at the end
};

}  // namespace mla
