#include "experiments/data/evaluation_text.h"

#include <algorithm>

#include "core/base/error.h"
#include "experiments/data/token_data.h"
#include "experiments/model/model_files.h"

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

EvaluationRows encode(const EvaluationText& text, const Tokenizer& tokenizer, std::int64_t vocabulary, int threads) {
  EvaluationRows result;
  const auto documents = read_documents(text.file, text.documents, text.limit.value_or(0), &result.skipped);
  TokenRows encoded = tokenize_documents(tokenizer, documents, {.add_bos = true}, threads);
  for (std::size_t i = 0; i < encoded.rows.size(); ++i) {
    expect_known_row(encoded.rows[i], vocabulary,
                     [&] { return cat(text.file.string(), ": document ", i, ", tokens"); });
  }
  result.bytes = encoded.bytes - unscored_bytes(tokenizer, encoded.rows);
  result.text_bytes = encoded.bytes;
  result.words = encoded.words;
  result.first_token = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
  result.rows = std::move(encoded.rows);
  return result;
}

}  // namespace

std::int64_t EvaluationRows::scorable_tokens() const {
  std::int64_t count = 0;
  for (const auto& row : rows) count += std::max<std::int64_t>(0, static_cast<std::int64_t>(row.size()) - 1);
  return count;
}

EvaluationRows read_evaluation_rows(const EvaluationText& text, const std::filesystem::path& model,
                                    const std::optional<std::filesystem::path>& tokenizer, const ModelSpec& spec,
                                    int threads) {
  EvaluationRows result;
  if (text.file.extension() == ".safetensors") {
    throw DataError(cat(text.file.string(), ": token ids in tensors are read where a config names the tensors; here, ",
                        "give {\"ids\": [[…]]} in a .json file, or a token shard"));
  }
  if (is_token_shard(text.file)) {
    DataOptions shard;
    shard.files = {text.file.string()};
    shard.max_rows = text.limit.value_or(0);
    const auto own = load_model_tokenizer(model, tokenizer, spec);
    result.rows = load_rows(shard, own.get(), spec.vocabulary, threads).rows;
  } else if (holds_token_ids(text.file)) {
    result.rows = read_token_rows(text.file).rows;
    keep_first(result.rows, text.limit);
    expect_known_ids(result.rows, spec.vocabulary, text.file.string());
  } else {
    result = encode(text, *load_model_tokenizer(model, tokenizer, spec), spec.vocabulary, threads);
  }
  if (result.scorable_tokens() == 0) {
    throw DataError(cat(text.file.string(), ": nothing to score: no document has two tokens"));
  }
  return result;
}

}  // namespace mla
