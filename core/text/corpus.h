// Reading texts for calibration, training and perplexity, and turning them into rows of token ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/text/tokenizer.h"

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

/// The documents of one file: `.jsonl` (one object a line), `.json` (an array of strings), anything else as text.
/// Bytes that are not UTF-8 become U+FFFD; documents of white space only are left out.
/// Throws DataError naming the file and the line or item, also for an empty corpus.
std::vector<std::string> read_documents(const std::filesystem::path& path, const DocumentOptions& options = {});

/// Rows of token ids, one per document, and the bytes of text that they stand for (0 when unknown).
struct TokenRows {
  std::vector<std::vector<std::int32_t>> rows;
  std::int64_t bytes = 0;
};

/// Reads `{"ids": [[1, 2, …], …]}`. Throws DataError naming the file and the row that is not a list of ids >= 0.
TokenRows read_token_rows(const std::filesystem::path& path);

/// Encodes every document on up to `threads` threads.
TokenRows tokenize_documents(const Tokenizer& tokenizer, const std::vector<std::string>& documents,
                             EncodeOptions options = {}, int threads = 1);

}  // namespace mla
