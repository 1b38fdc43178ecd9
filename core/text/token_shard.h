// Token shards: files of token ids that are mapped into memory and never loaded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/base/file.h"
#include "core/text/token_stream.h"

namespace mla {

// Layout, little-endian: the header (128 bytes); the tokens, each of 2 or 4 bytes; zeros up to a multiple of 8 bytes;
// the document index, documents + 1 numbers of 8 bytes: where each document begins among the tokens, and their count.

/// The extension of shards, by which they are told from text.
inline constexpr const char* kShardExtension = ".mlat";

/// What a shard says of itself. Hashes are 32 hex digits, see core/base/hash.h.
struct ShardHeader {
  std::int64_t bytes_per_token = 2;  ///< 2 where the vocabulary has at most 65,536 ids, else 4
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::int64_t text_bytes = 0;  ///< of the documents that the tokens stand for
  std::int64_t vocabulary = 0;  ///< of the tokenizer
  std::string tokenizer_hash;   ///< Tokenizer::content_hash()
  std::string content_hash;     ///< of tokens and index
  std::int64_t skipped = 0;     ///< lines or items left out as bad when it was packed; the file does not tell
};

/// Size of the header in a file, and of the file that it describes.
inline constexpr std::int64_t kShardHeaderBytes = 128;
std::int64_t shard_index_offset(const ShardHeader& header);
std::int64_t shard_file_bytes(const ShardHeader& header);

/// The header as it stands in the file.
std::string write_shard_header(const ShardHeader& header);

/// A shard opened for reading: mapped into memory, so that the system holds what is in use and drops it at need.
class TokenShard final : public TokenStream {
 public:
  /// Throws DataError for a file that is no shard, of another version, or not as long as its header says.
  explicit TokenShard(const std::filesystem::path& path);

  const ShardHeader& header() const { return header_; }
  const std::filesystem::path& path() const { return file_.path(); }
  std::int64_t tokens() const override { return header_.tokens; }
  std::int64_t documents() const override { return header_.documents; }
  /// Throws DataError for an index that points outside the tokens, or back.
  std::int64_t document_begin(std::int64_t index) const override;
  /// Throws DataError for an id that the tokenizer's vocabulary does not have.
  void read(std::int64_t begin, std::span<std::int32_t> out) const override;

  /// Throws DataError for the first id that a model with `vocabulary` embeddings does not have. Reads all tokens where
  /// the tokenizer has more ids than that, and none where it does not: read() finds damage.
  void check_ids(std::int64_t vocabulary) const;

  /// Throws DataError when the shard was packed with another tokenizer than the one with this content hash.
  void check_tokenizer(const std::string& tokenizer_hash) const;

 private:
  std::int64_t stored_begin(std::int64_t index) const;

  MappedFile file_;
  ShardHeader header_;
};

}  // namespace mla
