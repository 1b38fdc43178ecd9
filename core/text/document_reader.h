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

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("separator", self.separator,
          "text between documents, for example <|endoftext|>; empty: a file is one document");
    visit("normalize_whitespace", self.normalize_whitespace,
          "strip each line, make runs of white space inside it one space, and drop empty lines");
    visit("jsonl_field", self.jsonl_field, "the field of each .jsonl line that holds the text");
  }
};

/// The documents of one file, one after another: `.jsonl` (one object a line), `.json` (an array of strings), anything
/// else as text. Text and `.jsonl` are read piece by piece: memory holds one document, however large the file is.
/// Bytes that are not UTF-8 become U+FFFD; documents of white space only are left out.
class DocumentReader {
 public:
  /// Throws DataError when the file cannot be read.
  DocumentReader(const std::filesystem::path& path, const DocumentOptions& options);
  ~DocumentReader();

  /// The next document; false when there is none. Throws DataError naming the file and the line or item.
  bool next(std::string& document);

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
