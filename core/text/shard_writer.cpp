#include "core/text/shard_writer.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::int64_t kNarrowVocabulary = 65536;

std::FILE* open_nameless_file(const std::filesystem::path& beside) {
  const std::filesystem::path name = temporary_name(beside);
  std::FILE* file = std::fopen(name.c_str(), "w+be");
  if (file == nullptr) throw DataError(cat(beside.string(), ": cannot be written: ", std::strerror(errno)));
  std::error_code ignored;
  std::filesystem::remove(name, ignored);
  return file;
}

}  // namespace

ShardWriter::ShardWriter(const std::filesystem::path& path, std::int64_t vocabulary, const std::string& tokenizer_hash)
    : path_(path), writer_(path), index_(open_nameless_file(path)) {
  header_.bytes_per_token = vocabulary <= kNarrowVocabulary ? 2 : 4;
  header_.vocabulary = vocabulary;
  header_.tokenizer_hash = tokenizer_hash;
  const std::string room(static_cast<std::size_t>(kShardHeaderBytes), '\0');
  writer_.write(room.data(), room.size());
}

void ShardWriter::fail() const { throw DataError(cat(path_.string(), ": cannot be written: ", std::strerror(errno))); }

void ShardWriter::write(const void* bytes, std::size_t count) {
  hasher_.update({static_cast<const char*>(bytes), count});
  writer_.write(bytes, count);
}

void ShardWriter::add_to_index(std::int64_t begin) {
  if (std::fwrite(&begin, sizeof begin, 1, index_.get()) != 1) fail();
}

void ShardWriter::add(std::span<const std::int32_t> document, std::int64_t text_bytes) {
  add_to_index(header_.tokens);
  if (header_.bytes_per_token == 4) {
    write(document.data(), document.size_bytes());
  } else {
    const std::vector<std::uint16_t> narrow(document.begin(), document.end());
    write(narrow.data(), narrow.size() * sizeof(std::uint16_t));
  }
  header_.tokens += std::ssize(document);
  header_.documents += 1;
  header_.text_bytes += text_bytes;
}

ShardHeader ShardWriter::finish() {
  add_to_index(header_.tokens);
  const std::int64_t used = kShardHeaderBytes + header_.tokens * header_.bytes_per_token;
  const std::string padding(static_cast<std::size_t>(shard_index_offset(header_) - used), '\0');
  write(padding.data(), padding.size());
  std::rewind(index_.get());
  std::vector<char> block(1 << 20);
  for (std::size_t count; (count = std::fread(block.data(), 1, block.size(), index_.get())) > 0;) {
    write(block.data(), count);
  }
  if (std::ferror(index_.get()) != 0) fail();
  header_.content_hash = hasher_.digest();
  const std::string header = write_shard_header(header_);
  writer_.overwrite(0, header.data(), header.size());
  writer_.finish({});
  return header_;
}

}  // namespace mla
