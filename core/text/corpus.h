// Reading texts for calibration, training and perplexity, and turning them into rows of token ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/document_reader.h"
#include "core/text/tokenizer.h"

namespace mla {

/// The documents of one file, the first `limit` of them (0: all). `skipped` is told how many lines or items were left
/// out under options.skip_bad_lines. Throws as DocumentReader does, and DataError for an empty corpus.
std::vector<std::string> read_documents(const std::filesystem::path& path, const DocumentOptions& options = {},
                                        std::int64_t limit = 0, std::int64_t* skipped = nullptr);

/// Rows of token ids, one per document, and the bytes of text that they stand for (0 when unknown).
struct TokenRows {
  std::vector<std::vector<std::int32_t>> rows;
  std::int64_t bytes = 0;
  std::int64_t skipped = 0;  ///< lines or items of the files that were left out as bad
  std::int64_t words = 0;    ///< of the same text as `bytes`: count_words(); 0 when unknown

  /// Of all rows.
  std::int64_t tokens() const;
};

/// Reads `{"ids": [[1, 2, …], …]}`. Throws DataError naming the file and the row that is not a list of ids >= 0.
TokenRows read_token_rows(const std::filesystem::path& path);

/// Pieces of a text between runs of white space, those at its ends counted although they may be empty: what
/// re.split(r"\s+", text) gives, by which lm-evaluation-harness takes perplexity per word.
std::int64_t count_words(std::string_view text);

/// Encodes every document on up to `threads` threads.
TokenRows tokenize_documents(const Tokenizer& tokenizer, const std::vector<std::string>& documents,
                             EncodeOptions options = {}, int threads = 1);

}  // namespace mla
