// The text that calibration, training and evaluation read, as an experiment's config states it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/base/identity.h"
#include "core/text/corpus.h"
#include "core/text/token_stream.h"
#include "core/text/tokenizer.h"

namespace mla {

/// Files of text (or of token ids, or token shards), how they are cut into documents, and how documents become rows of
/// tokens.
struct DataOptions {
  std::vector<std::string> files;
  std::string tensors;
  DocumentOptions documents;
  bool bos = true;
  bool eos = false;
  std::int64_t length = 0;
  std::string long_documents = "cut";
  std::int64_t min_tokens = 0;
  std::int64_t max_rows = 0;
  bool spread_rows = false;

  static constexpr std::array kLeftOut = {LeftOut{"files", "the hash of each file's content stands for it"}};
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("files", self.files,
          "text, .jsonl, .json (texts, or {\"ids\": [[…]]}), any of them also packed by gzip, zstd or xz, .safetensors "
          "or "
          ".mlat token shards; in this order");
    visit("tensors", self.tensors,
          "of a .safetensors file: its rows are <tensors>_ids [rows, tokens], cut at <tensors>_len [rows]");
    visit("documents", self.documents, "how files are cut into documents");
    visit("bos", self.bos, "begin each document with the tokenizer's special tokens, where it has such a rule");
    visit("eos", self.eos, "end each document with the tokenizer's EOS token; what token ids hold is left as it is");
    visit("length", self.length, "tokens of a row at most; 0: whole documents");
    visit("long_documents", self.long_documents, "cut: keep the first `length` tokens | split: into several rows");
    visit("min_tokens", self.min_tokens, "rows with fewer tokens are left out");
    visit("max_rows", self.max_rows, "only the first rows; 0: all");
    visit(
        "spread_rows", self.spread_rows,
        "max_rows are taken at even distances over all rows, in an order whose beginnings are spread likewise; false: "
        "the first ones");
  }
  /// Throws ConfigError for no files, no name of the tensors of one that holds tensors, a negative number, or an
  /// unknown rule for long documents.
  void validate(const std::string& path) const;
};

/// Whether a file holds rows of token ids, which need no tokenizer.
bool holds_token_ids(const std::filesystem::path& file);

/// Whether a file is a token shard, by its extension.
bool is_token_shard(const std::filesystem::path& file);

/// `count` places of `total` (all where there are no more, or with count 0) at even distances, in bit-reversed order:
/// the first 2^k of them lie at even distances, too, so that whoever reads only some rows has them from everywhere.
std::vector<std::size_t> spread_places(std::size_t total, std::size_t count);

/// The items at these places, each place at most once, in their order.
template <class Item>
std::vector<Item> items_at(std::vector<Item> items, const std::vector<std::size_t>& places) {
  std::vector<Item> chosen;
  chosen.reserve(places.size());
  for (const std::size_t place : places) chosen.push_back(std::move(items[place]));
  return chosen;
}

/// The rows that the options describe; `bytes` counts the text of all documents only when none was cut or left out.
/// `tokenizer` may be null when all files hold ids. Throws DataError for unreadable files, for a shard that was packed
/// with another tokenizer, for an id that a model of `vocabulary` embeddings does not have, or when no row is left.
TokenRows load_rows(const DataOptions& options, const Tokenizer* tokenizer, std::int64_t vocabulary, int threads);

/// Text files above this size are not held in memory for training.
inline constexpr std::int64_t kLargestTextInMemory = std::int64_t{32} << 20;

/// The same for training, end to end. Unless rows are cut or left out by `length`, `min_tokens` or `max_rows`, shards
/// stay where they are, mapped into memory, and text files that are compressed or of more than `in_memory` bytes are
/// packed into a shard without a name in the folder for temporary files (TMPDIR), so that memory does not grow with the
/// corpus. Everything else is loaded. Throws Interrupted after a signal.
std::shared_ptr<const TokenStream> open_tokens(const DataOptions& options, const Tokenizer& tokenizer,
                                               std::int64_t vocabulary, int threads,
                                               std::int64_t in_memory = kLargestTextInMemory);

/// The content hash of a file that is read as data. A token shard may be larger than one wants to read through: it
/// states the hash of what it holds.
std::string hash_data_file(const std::filesystem::path& file);

}  // namespace mla
