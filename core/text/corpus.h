// Reading texts for calibration, training and perplexity, and turning them into rows of token ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/text/document_reader.h"
#include "core/text/tokenizer.h"

namespace mla {

/// All documents of one file. Throws as DocumentReader does, and DataError for an empty corpus.
std::vector<std::string> read_documents(const std::filesystem::path& path, const DocumentOptions& options = {});

/// Rows of token ids, one per document, and the bytes of text that they stand for (0 when unknown).
struct TokenRows {
  std::vector<std::vector<std::int32_t>> rows;
  std::int64_t bytes = 0;

  /// Of all rows.
  std::int64_t tokens() const;
};

/// Reads `{"ids": [[1, 2, …], …]}`. Throws DataError naming the file and the row that is not a list of ids >= 0.
TokenRows read_token_rows(const std::filesystem::path& path);

/// Encodes every document on up to `threads` threads.
TokenRows tokenize_documents(const Tokenizer& tokenizer, const std::vector<std::string>& documents,
                             EncodeOptions options = {}, int threads = 1);

}  // namespace mla
