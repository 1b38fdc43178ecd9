// Turning text of any size into a token shard.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "core/text/document_reader.h"
#include "core/text/token_shard.h"
#include "core/text/tokenizer.h"

namespace mla {

/// How text becomes a shard.
struct PackOptions {
  DocumentOptions documents;
  bool bos = true;   ///< begin each document with the tokenizer's special tokens, where it has such a rule
  bool eos = false;  ///< end each document with the tokenizer's EOS
  int threads = 1;   ///< that encode; the caller's thread reads and writes beside them
};

/// Told after each group of documents: bytes of the files read since the last call, and tokens written in all. It may
/// throw to stop: nothing is left behind then.
using PackProgress = std::function<void(std::int64_t bytes, std::int64_t tokens)>;

/// Encodes the documents of `files` in order and writes one shard; the bytes do not depend on the number of threads.
/// Memory holds some tens of MiB of text, or a few documents where one is larger, however large the files are.
/// Throws DataError for unreadable or malformed files, when they hold no document, when `eos` is asked for and the
/// tokenizer has none, and when the shard cannot be written; no shard appears then.
ShardHeader pack(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer,
                 const PackOptions& options, const std::filesystem::path& output, const PackProgress& progress = {});

}  // namespace mla
