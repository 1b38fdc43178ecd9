#include "core/text/corpus.h"

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/char_class.h"
#include "core/text/text_file.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

std::vector<std::int32_t> read_row(const Json& json, const std::string& where) {
  if (!json.is_array()) throw DataError(cat(where, ": expected a list of ids, found ", kind_of(json)));
  std::vector<std::int32_t> row;
  row.reserve(json.size());
  for (const Json& id : json) {
    // What is written without a sign and is larger than int64 holds is unsigned there.
    const bool whole = id.is_number_integer() && (!id.is_number_unsigned() || id.get<std::uint64_t>() <= INT32_MAX);
    if (!whole || id.get<std::int64_t>() < 0) {
      throw DataError(cat(where, "[", row.size(), "]: expected an id >= 0, found ", brief(id)));
    }
    row.push_back(id.get<std::int32_t>());
  }
  return row;
}

}  // namespace

std::vector<std::string> read_documents(const fs::path& path, const DocumentOptions& options, std::int64_t limit,
                                        std::int64_t* skipped) {
  std::vector<std::string> documents;
  DocumentReader reader(path, options);
  for (std::string document; (limit == 0 || std::ssize(documents) < limit) && reader.next(document);) {
    documents.push_back(std::move(document));
  }
  if (skipped != nullptr) *skipped = reader.skipped();
  if (documents.empty()) {
    throw DataError(cat(path.string(), ": the corpus is empty",
                        reader.skipped() > 0 ? cat(": all ", reader.skipped(), " JSON values are bad") : ""));
  }
  return documents;
}

std::int64_t TokenRows::tokens() const {
  std::int64_t total = 0;
  for (const auto& row : rows) total += std::ssize(row);
  return total;
}

TokenRows read_token_rows(const fs::path& path) {
  const Json json = parse_json(read_text_file(path), path.string());
  if (!json.is_object() || !json.contains("ids") || !json.at("ids").is_array()) {
    throw DataError(cat(path.string(), ": expected {\"ids\": [[…], …]}, found ", kind_of(json)));
  }
  TokenRows rows;
  for (const Json& row : json.at("ids")) {
    rows.rows.push_back(read_row(row, cat(path.string(), ": ids[", rows.rows.size(), "]")));
  }
  if (rows.rows.empty()) throw DataError(cat(path.string(), ": the corpus is empty"));
  return rows;
}

std::int64_t count_words(std::string_view text) {
  std::int64_t runs = 0;
  bool in_run = false;
  for (std::size_t at = 0; at < text.size(); at += utf8_size(text[at])) {
    const char32_t code = read_utf8(text.data() + at).value;
    const bool space = CharClasses::instance()[code] == CharClass::kSpace || (code >= 0x1C && code <= 0x1F);
    runs += space && !in_run;
    in_run = space;
  }
  return runs + 1;
}

TokenRows tokenize_documents(const Tokenizer& tokenizer, const std::vector<std::string>& documents,
                             EncodeOptions options, int threads) {
  TokenRows rows;
  for (const std::string& document : documents) {
    rows.bytes += static_cast<std::int64_t>(document.size());
    rows.words += count_words(document);
  }
  rows.rows = encode_batch(tokenizer, documents, options, threads);
  return rows;
}

}  // namespace mla
