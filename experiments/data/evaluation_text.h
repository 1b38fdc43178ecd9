// The rows of token ids that a model is evaluated on, from text or from ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "core/model/model_spec.h"
#include "core/text/corpus.h"
#include "experiments/data/token_ids.h"

namespace mla {

/// A file and how to read it.
struct EvaluationText {
  std::filesystem::path file;  ///< text, .jsonl, .json, `{"ids": [[…]]}` in a .json file, or a token shard
  DocumentOptions documents;
  std::optional<std::int64_t> limit;  ///< documents to keep at most
};

/// Rows in which every token but the first of each row can be scored.
struct EvaluationRows {
  TokenIds rows;
  std::optional<std::int64_t> bytes;  ///< of text that the scorable tokens stand for; absent for rows of ids
  std::int64_t text_bytes = 0;        ///< of the whole text; 0: unknown
  std::int64_t words = 0;             ///< count_words() of its documents; 0: unknown
  std::int64_t skipped = 0;           ///< lines or items of the file that were left out as bad
  /// BOS, or EOS where the tokenizer has none; absent for rows of ids.
  std::optional<std::int32_t> first_token;
  std::int64_t scorable_tokens() const;
};

/// Reads the file; text is encoded with the tokenizer at `tokenizer` or beside the model, each document headed by the
/// special tokens of the tokenizer's own rules.
/// Throws DataError naming the file for a missing or empty corpus, ids that the model does not have, and when no token
/// is left to score.
EvaluationRows read_evaluation_rows(const EvaluationText& text, const std::filesystem::path& model,
                                    const std::optional<std::filesystem::path>& tokenizer, const ModelSpec& spec,
                                    int threads);

}  // namespace mla
