#include "experiments/data/token_data.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/base/suggest.h"
#include "core/text/json_source.h"
#include "core/text/pack.h"
#include "core/text/text_file.h"
#include "core/text/token_shard.h"
#include "experiments/data/data_choices.h"
#include "experiments/data/token_ids.h"

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
    rows.emplace_back(tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                      tokens.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return rows;
}

/// Gathers the rows that the options ask for, document by document.
class RowCollector {
 public:
  RowCollector(const DataOptions& options, std::int64_t vocabulary) : options_(options), vocabulary_(vocabulary) {}

  /// Rows at even distances are chosen when all are there.
  bool full() const {
    return !options_.spread_rows && options_.max_rows > 0 && std::ssize(result_.rows) >= options_.max_rows;
  }

  /// `where` names the document in an error.
  void add(std::vector<std::int32_t> document, const std::function<std::string()>& where) {
    expect_known_row(document, vocabulary_, where);
    const std::size_t size = document.size();
    std::size_t kept = 0;
    for (auto& row : rows_of(std::move(document), options_)) {
      if (full() || std::ssize(row) < options_.min_tokens) continue;
      kept += row.size();
      result_.rows.push_back(std::move(row));
    }
    whole_ = whole_ && kept == size;
  }

  /// `bytes` of text stand behind the documents of a file, 0: unknown; `all`: all of them were added.
  void end_file(std::int64_t bytes, bool all, std::int64_t skipped = 0, std::int64_t words = 0) {
    whole_ = whole_ && bytes > 0 && all;
    result_.bytes += bytes;
    result_.skipped += skipped;
    result_.words += words;
    knows_words_ = knows_words_ && words > 0;
  }

  TokenRows result() && {
    if (options_.spread_rows) spread();
    if (!whole_) result_.bytes = 0;
    if (!whole_ || !knows_words_) result_.words = 0;
    if (result_.rows.empty()) {
      throw DataError(cat(join(options_.files), ": no row of at least ", options_.min_tokens, " tokens"));
    }
    return std::move(result_);
  }

 private:
  void spread() {
    const auto places = spread_places(result_.rows.size(), static_cast<std::size_t>(options_.max_rows));
    whole_ = whole_ && places.size() == result_.rows.size();
    result_.rows = items_at(std::move(result_.rows), places);
  }

  const DataOptions& options_;
  std::int64_t vocabulary_;
  TokenRows result_;
  bool whole_ = true, knows_words_ = true;
};

std::shared_ptr<const TokenShard> open_shard(const std::string& file, const Tokenizer* tokenizer,
                                             std::int64_t vocabulary) {
  auto shard = std::make_shared<const TokenShard>(file);
  if (tokenizer != nullptr) shard->check_tokenizer(tokenizer->content_hash());
  shard->check_ids(vocabulary);
  return shard;
}

void add_shard(const TokenShard& shard, RowCollector& rows) {
  std::int64_t document = 0;
  for (; document < shard.documents() && !rows.full(); ++document) {
    const std::int64_t begin = shard.document_begin(document), end = shard.document_begin(document + 1);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(end - begin));
    shard.read(begin, tokens);
    rows.add(std::move(tokens), [&] { return cat(shard.path().string(), ": document ", document); });
  }
  rows.end_file(shard.header().text_bytes, document == shard.documents());
}

bool is_tensor_file(const std::filesystem::path& file) { return file.extension() == ".safetensors"; }

TokenRows read_ids(const std::string& file, const DataOptions& options) {
  return is_tensor_file(file) ? TokenRows{read_tensor_rows(file, options.tensors), 0} : read_token_rows(file);
}

TokenRows tokenize_file(const std::string& file, const DataOptions& options, const Tokenizer* tokenizer, int threads) {
  expects(tokenizer != nullptr, "text needs a tokenizer");
  std::int64_t skipped = 0;
  const auto documents = read_documents(file, options.documents, 0, &skipped);
  TokenRows tokens = tokenize_documents(*tokenizer, documents, {.add_bos = options.bos}, threads);
  tokens.skipped = skipped;
  if (!options.eos) return tokens;
  if (!tokenizer->eos()) throw DataError(cat(file, ": eos = true, but the tokenizer names no EOS token"));
  for (auto& row : tokens.rows) row.push_back(*tokenizer->eos());
  return tokens;
}

/// A text file's tokens in a shard that goes when nobody reads it any more.
std::shared_ptr<const TokenShard> pack_aside(const std::filesystem::path& file, const DataOptions& options,
                                             const Tokenizer& tokenizer, std::int64_t vocabulary, int threads) {
  static std::atomic<int> count = 0;
  const auto shard =
      std::filesystem::temp_directory_path() / cat("mlaforge_", ::getpid(), "_", count++, kShardExtension);
  Progress bar(cat("tokenize ", file.filename().string()), static_cast<std::int64_t>(std::filesystem::file_size(file)),
               "bytes");
  pack({file}, tokenizer, {options.documents, options.bos, options.eos, threads}, shard,
       [&](std::int64_t bytes, std::int64_t) {
         bar.advance(bytes);
         check_interrupt();
       });
  auto opened = std::make_shared<const TokenShard>(shard);
  std::filesystem::remove(shard);  // the mapping keeps its bytes
  try {
    opened->check_ids(vocabulary);
  } catch (const DataError& error) {
    const std::string what = error.what();
    throw DataError(cat(file.string(), what.substr(shard.string().size())));
  }
  return opened;
}

bool is_large_text(const std::string& file, std::int64_t in_memory) {
  if (holds_token_ids(file)) return false;
  std::error_code missing;  // which whoever reads it tells
  const auto bytes = std::filesystem::file_size(file, missing);
  // How much a compressed file unpacks to shows only at its end.
  return !missing && (static_cast<std::int64_t>(bytes) > in_memory || TextFile(file).packed());
}

}  // namespace

std::vector<std::size_t> spread_places(std::size_t total, std::size_t count) {
  if (count == 0 || count > total) count = total;
  std::size_t bits = 0;
  while ((std::size_t{1} << bits) < count) ++bits;
  std::vector<std::size_t> places;
  places.reserve(count);
  for (std::size_t i = 0; i < std::size_t{1} << bits; ++i) {
    std::size_t reversed = 0;
    for (std::size_t bit = 0; bit < bits; ++bit) reversed |= (i >> bit & 1) << (bits - 1 - bit);
    if (reversed < count) places.push_back(reversed * total / count);
  }
  return places;
}

bool is_token_shard(const std::filesystem::path& file) { return file.extension() == kShardExtension; }

bool holds_token_ids(const std::filesystem::path& file) {
  if (is_tensor_file(file)) return true;
  return content_extension(file) == ".json" && holds_ids_object(file);
}

const std::vector<std::string>& long_document_rules() {
  static const std::vector<std::string> names = {"cut", "split"};
  return names;
}

void DataOptions::validate(const std::string& path) const {
  if (files.empty()) throw ConfigError(cat(path, ".files: name at least one file"));
  for (const std::string& file : files) {
    if (is_tensor_file(file) && tensors.empty()) {
      throw ConfigError(cat(path, ".tensors: name the rows of ", file, ": \"x\" for tensors x_ids and x_len"));
    }
  }
  for (const auto& [name, value] : {std::pair{"length", length}, {"min_tokens", min_tokens}, {"max_rows", max_rows}}) {
    if (value < 0) throw ConfigError(cat(path, ".", name, " = ", value, ": must not be negative"));
  }
  const std::vector<std::string>& rules = long_document_rules();
  if (std::find(rules.begin(), rules.end(), long_documents) == rules.end()) {
    throw ConfigError(cat(path, ".long_documents: ", unknown_name(long_documents, rules)));
  }
}

TokenRows load_rows(const DataOptions& options, const Tokenizer* tokenizer, std::int64_t vocabulary, int threads) {
  RowCollector rows(options, vocabulary);
  for (const std::string& file : options.files) {
    if (is_token_shard(file)) {
      add_shard(*open_shard(file, tokenizer, vocabulary), rows);
      continue;
    }
    const bool ids = holds_token_ids(file);
    const std::string name = ids ? is_tensor_file(file) ? options.tensors + "_ids[" : "ids[" : "document ";
    TokenRows tokens = ids ? read_ids(file, options) : tokenize_file(file, options, tokenizer, threads);
    for (std::size_t i = 0; i < tokens.rows.size(); ++i) {
      rows.add(std::move(tokens.rows[i]), [&] { return cat(file, ": ", name, i, ids ? "]" : ", tokens"); });
    }
    rows.end_file(tokens.bytes, true, tokens.skipped, tokens.words);
  }
  return std::move(rows).result();
}

std::shared_ptr<const TokenStream> open_tokens(const DataOptions& options, const Tokenizer& tokenizer,
                                               std::int64_t vocabulary, int threads, std::int64_t in_memory) {
  const bool whole = options.length == 0 && options.min_tokens == 0 && options.max_rows == 0 && !options.spread_rows;
  if (!whole) return std::make_shared<MemoryTokens>(load_rows(options, &tokenizer, vocabulary, threads).rows);
  std::vector<std::shared_ptr<const TokenStream>> parts;
  for (const std::string& file : options.files) {
    if (is_token_shard(file)) {
      parts.push_back(open_shard(file, &tokenizer, vocabulary));
    } else if (is_large_text(file, in_memory)) {
      parts.push_back(pack_aside(file, options, tokenizer, vocabulary, threads));
    } else {
      DataOptions one = options;
      one.files = {file};
      parts.push_back(std::make_shared<MemoryTokens>(load_rows(one, &tokenizer, vocabulary, threads).rows));
    }
  }
  return parts.size() == 1 ? parts.front() : std::make_shared<JoinedTokens>(std::move(parts));
}

std::string hash_data_file(const std::filesystem::path& file) {
  return is_token_shard(file) ? TokenShard(file).header().content_hash : hash_file(file);
}

}  // namespace mla
