#include "experiments/token_data.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

/// One document's rows under the options' length.
std::vector<std::vector<std::int32_t>> rows_of(std::vector<std::int32_t> tokens, const DataOptions& options) {
  const auto length = static_cast<std::size_t>(options.length);
  if (length == 0 || tokens.size() <= length) return {std::move(tokens)};
  if (options.long_documents == "cut") {
    tokens.resize(length);
    return {std::move(tokens)};
  }
  std::vector<std::vector<std::int32_t>> rows;
  for (std::size_t begin = 0; begin < tokens.size(); begin += length) {
    const std::size_t end = std::min(begin + length, tokens.size());
    rows.emplace_back(tokens.begin() + static_cast<std::ptrdiff_t>(begin), tokens.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return rows;
}

}  // namespace

bool holds_token_ids(const std::filesystem::path& file) {
  if (file.extension() != ".json") return false;
  const Json json = read_json(file);
  return json.is_object() && json.contains("ids");
}

void DataOptions::validate(const std::string& path) const {
  if (files.empty()) throw ConfigError(cat(path, ".files: name at least one file"));
  for (const auto& [name, value] : {std::pair{"length", length}, {"min_tokens", min_tokens}, {"max_rows", max_rows}}) {
    if (value < 0) throw ConfigError(cat(path, ".", name, " = ", value, ": must not be negative"));
  }
  const std::vector<std::string> rules = {"cut", "split"};
  if (std::find(rules.begin(), rules.end(), long_documents) == rules.end()) {
    throw ConfigError(cat(path, ".long_documents: ", unknown_name(long_documents, rules)));
  }
}

TokenRows load_rows(const DataOptions& options, const Tokenizer* tokenizer, int threads) {
  TokenRows result;
  bool whole = true;
  for (const std::string& file : options.files) {
    const bool ids = holds_token_ids(file);
    expects(ids || tokenizer, "text needs a tokenizer");
    TokenRows tokens = ids ? read_token_rows(file)
                           : tokenize_documents(*tokenizer, read_documents(file, options.documents),
                                                {.add_bos = options.bos}, threads);
    whole = whole && tokens.bytes > 0;
    result.bytes += tokens.bytes;
    for (auto& document : tokens.rows) {
      const std::size_t size = document.size();
      std::size_t kept = 0;
      for (auto& row : rows_of(std::move(document), options)) {
        const bool full = options.max_rows > 0 && std::ssize(result.rows) >= options.max_rows;
        if (full || std::ssize(row) < options.min_tokens) continue;
        kept += row.size();
        result.rows.push_back(std::move(row));
      }
      whole = whole && kept == size;
    }
  }
  if (!whole) result.bytes = 0;
  if (result.rows.empty()) {
    throw DataError(cat(join(options.files), ": no row of at least ", options.min_tokens, " tokens"));
  }
  return result;
}

}  // namespace mla
