#include "experiments/evaluation_text.h"

#include <algorithm>

#include "core/base/error.h"
#include "experiments/model_files.h"
#include "experiments/token_data.h"

namespace mla {
namespace {

template <class T>
void keep_first(std::vector<T>& items, const std::optional<std::int64_t>& limit) {
  if (limit && static_cast<std::size_t>(*limit) < items.size()) items.resize(static_cast<std::size_t>(*limit));
}

/// Bytes that first tokens stand for where no BOS precedes the text: nothing predicts them.
std::int64_t unscored_bytes(const Tokenizer& tokenizer, const TokenIds& rows) {
  std::int64_t bytes = 0;
  for (const auto& row : rows) {
    if (!row.empty()) bytes += static_cast<std::int64_t>(tokenizer.decode({row.data(), 1}).size());
  }
  return bytes;
}

EvaluationRows encode(const EvaluationText& text, const Tokenizer& tokenizer, int threads) {
  std::vector<std::string> documents = read_documents(text.file, text.documents);
  keep_first(documents, text.limit);
  TokenRows encoded = tokenize_documents(tokenizer, documents, {.add_bos = true}, threads);
  const std::int64_t scored = encoded.bytes - unscored_bytes(tokenizer, encoded.rows);
  return {std::move(encoded.rows), scored};
}

}  // namespace

std::int64_t EvaluationRows::scorable_tokens() const {
  std::int64_t count = 0;
  for (const auto& row : rows) count += std::max<std::int64_t>(0, static_cast<std::int64_t>(row.size()) - 1);
  return count;
}

EvaluationRows read_evaluation_rows(const EvaluationText& text, const std::filesystem::path& model,
                                    const std::optional<std::filesystem::path>& tokenizer, const Geometry& geometry,
                                    int threads) {
  EvaluationRows result;
  if (holds_token_ids(text.file)) {
    result.rows = read_token_rows(text.file).rows;
    keep_first(result.rows, text.limit);
    expect_known_ids(result.rows, geometry.vocabulary, text.file.string());
  } else {
    result = encode(text, *load_model_tokenizer(model, tokenizer, geometry), threads);
  }
  if (result.scorable_tokens() == 0) {
    throw DataError(cat(text.file.string(), ": nothing to score: no document has two tokens"));
  }
  return result;
}

}  // namespace mla
