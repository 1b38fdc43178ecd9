#include "core/text/token_shard.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "core/base/error.h"

namespace mla {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and read as they lie");

constexpr char kMagic[] = "MLATOKEN";
constexpr std::uint32_t kVersion = 1;

/// The header's bytes in a file.
struct RawHeader {
  char magic[8];
  std::uint32_t version, bytes_per_token;
  std::int64_t tokens, documents, text_bytes, vocabulary;
  char tokenizer_hash[32], content_hash[32];
  char reserved[16];
};
static_assert(sizeof(RawHeader) == kShardHeaderBytes);

std::int64_t padded(std::int64_t bytes) { return (bytes + 7) / 8 * 8; }

void copy_hash(const std::string& hash, char (&into)[32]) {
  expects(hash.size() == sizeof into, "a content hash has 32 digits");
  std::copy(hash.begin(), hash.end(), into);
}

ShardHeader read_header(const MappedFile& file) {
  const std::string name = file.path().string();
  RawHeader raw;
  const bool whole = file.size() >= sizeof raw;
  if (whole) std::memcpy(&raw, file.data(), sizeof raw);
  if (!whole || std::memcmp(raw.magic, kMagic, sizeof raw.magic) != 0) {
    throw DataError(cat(name, ": not a token shard (it does not begin with ", kMagic, "); mlaforge pack makes them"));
  }
  if (raw.version != kVersion) {
    throw DataError(cat(name, ": a token shard of version ", raw.version, ", this program reads version ", kVersion));
  }
  const ShardHeader header{raw.bytes_per_token,
                           raw.tokens,
                           raw.documents,
                           raw.text_bytes,
                           raw.vocabulary,
                           std::string(raw.tokenizer_hash, sizeof raw.tokenizer_hash),
                           std::string(raw.content_hash, sizeof raw.content_hash)};
  // The limits also keep the sizes below from overflowing.
  const auto size = static_cast<std::int64_t>(file.size());
  const auto counts = [&](std::int64_t value) { return value >= 0 && value <= size; };
  const bool sane = (header.bytes_per_token == 2 || header.bytes_per_token == 4) && counts(header.tokens) &&
                    counts(header.documents) && header.text_bytes >= 0 && header.vocabulary > 0;
  if (!sane || shard_file_bytes(header) != size) {
    throw DataError(cat(name, ": the token shard is damaged: its header states ", header.tokens, " tokens of ",
                        header.bytes_per_token, " bytes in ", header.documents, " documents",
                        sane ? cat(", ", shard_file_bytes(header), " bytes in all") : "", "; the file has ", size));
  }
  return header;
}

}  // namespace

std::int64_t shard_index_offset(const ShardHeader& header) {
  return kShardHeaderBytes + padded(header.tokens * header.bytes_per_token);
}

std::int64_t shard_file_bytes(const ShardHeader& header) {
  return shard_index_offset(header) + (header.documents + 1) * static_cast<std::int64_t>(sizeof(std::int64_t));
}

std::string write_shard_header(const ShardHeader& header) {
  RawHeader raw{};
  std::memcpy(raw.magic, kMagic, sizeof raw.magic);
  raw.version = kVersion;
  raw.bytes_per_token = static_cast<std::uint32_t>(header.bytes_per_token);
  raw.tokens = header.tokens;
  raw.documents = header.documents;
  raw.text_bytes = header.text_bytes;
  raw.vocabulary = header.vocabulary;
  copy_hash(header.tokenizer_hash, raw.tokenizer_hash);
  copy_hash(header.content_hash, raw.content_hash);
  return {reinterpret_cast<const char*>(&raw), sizeof raw};
}

TokenShard::TokenShard(const std::filesystem::path& path) : file_(path), header_(read_header(file_)) {
  // Training reads short stretches in random order: reading ahead would fetch many times what is used.
  ::madvise(const_cast<std::byte*>(file_.data()), file_.size(), MADV_RANDOM);
  if (document_begin(0) != 0 || document_begin(documents()) != tokens()) {
    throw DataError(cat(path.string(), ": the token shard is damaged: its documents do not span its tokens"));
  }
}

std::int64_t TokenShard::stored_begin(std::int64_t index) const {
  std::int64_t begin = 0;
  std::memcpy(&begin, file_.data() + shard_index_offset(header_) + index * static_cast<std::int64_t>(sizeof begin),
              sizeof begin);
  return begin;
}

std::int64_t TokenShard::document_begin(std::int64_t index) const {
  expects(index >= 0 && index <= documents(), "a document outside the shard");
  const std::int64_t begin = stored_begin(index);
  if (const std::int64_t before = index > 0 ? stored_begin(index - 1) : 0; begin < before && before <= tokens()) {
    throw DataError(cat(file_.path().string(), ": the token shard is damaged: document ", index, " begins at token ",
                        begin, ", before the one in front of it (", before, ")"));
  }
  if (begin < 0 || begin > tokens()) {
    throw DataError(cat(file_.path().string(), ": the token shard is damaged: document ", index, " begins at token ",
                        begin, " of ", tokens()));
  }
  return begin;
}

void TokenShard::read(std::int64_t begin, std::span<std::int32_t> out) const {
  expects(begin >= 0 && begin <= tokens() && std::ssize(out) <= tokens() - begin, "tokens outside the shard");
  if (out.empty()) return;  // memcpy is not to be called with an empty span's null pointer
  const std::byte* from = file_.data() + kShardHeaderBytes + begin * header_.bytes_per_token;
  if (header_.bytes_per_token == 2) {
    const auto* narrow = reinterpret_cast<const std::uint16_t*>(from);
    std::copy_n(narrow, out.size(), out.begin());
  } else {
    std::memcpy(out.data(), from, out.size_bytes());
  }
  // Also finds ids that are negative as int32.
  const auto outside =
      std::find_if(out.begin(), out.end(), [&](std::int32_t id) { return id < 0 || id >= header_.vocabulary; });
  if (outside != out.end()) {
    throw DataError(cat(file_.path().string(), ": the token shard is damaged: token ", begin + (outside - out.begin()),
                        " is ", *outside, ", the vocabulary has ", header_.vocabulary, " ids"));
  }
}

void TokenShard::check_ids(std::int64_t vocabulary) const {
  if (vocabulary >= header_.vocabulary) return;
  constexpr std::int64_t kAtOnce = std::int64_t{1} << 20;
  std::vector<std::int32_t> block;
  for (std::int64_t begin = 0; begin < tokens(); begin += kAtOnce) {
    block.resize(static_cast<std::size_t>(std::min(kAtOnce, tokens() - begin)));
    read(begin, block);
    const auto outside = std::find_if(block.begin(), block.end(), [&](std::int32_t id) { return id >= vocabulary; });
    if (outside == block.end()) continue;
    const std::int64_t token = begin + (outside - block.begin()), document = document_of(*this, token);
    throw DataError(cat(file_.path().string(), ": document ", document, ", token ", token - document_begin(document),
                        ": id ", *outside, " is outside the model's vocabulary, 0..", vocabulary - 1));
  }
}

void TokenShard::check_tokenizer(const std::string& tokenizer_hash) const {
  if (header_.tokenizer_hash == tokenizer_hash) return;
  throw DataError(cat(file_.path().string(), ": packed with another tokenizer (hash ", header_.tokenizer_hash,
                      ") than the model's (hash ", tokenizer_hash, "); pack the text again with the model's"));
}

}  // namespace mla
