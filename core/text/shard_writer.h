// Writing token shards document by document.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "core/base/atomic_writer.h"
#include "core/base/hash.h"
#include "core/text/token_shard.h"

namespace mla {

/// Writes a shard that appears only when it is whole. Memory does not grow with it: the document index, which follows
/// the tokens, waits in a nameless file beside it.
class ShardWriter {
 public:
  /// Throws DataError when the file cannot be made.
  ShardWriter(const std::filesystem::path& path, std::int64_t vocabulary, const std::string& tokenizer_hash);

  /// Adds a document of `text_bytes` bytes. Throws DataError when the disk is full.
  void add(std::span<const std::int32_t> document, std::int64_t text_bytes);

  /// Writes index and header, and renames the file to its name. Throws DataError when the disk is full.
  ShardHeader finish();

 private:
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void write(const void* bytes, std::size_t count);
  void add_to_index(std::int64_t begin);
  [[noreturn]] void fail() const;

  std::filesystem::path path_;
  ShardHeader header_;
  Hasher hasher_;
  AtomicWriter writer_;
  std::unique_ptr<std::FILE, CloseFile> index_;
};

}  // namespace mla
