// Documents, rows of token ids, token shards.
#include <zlib.h>

#include <cstring>

#include "core/text/corpus.h"
#include "core/text/document_reader.h"
#include "core/text/token_shard.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"

namespace mla::fuzz {
namespace {

std::string gzipped(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(text.size() + 100, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

/// The first byte chooses the file's name; the second one, how it is cut.
constexpr const char* kNames[] = {"a.txt", "a.jsonl", "a.json", "a.txt.gz", "a.jsonl.gz", "a.txt.zst", "a.jsonl.xz"};

std::vector<std::string> document_seeds() {
  const std::string text = "one\n two  three\n###\nfour \xC3\xA9\n###\n",
                    lines = "{\"text\": \"one\"}\n\n{\"text\": \"two\", \"n\": 1}\n";
  // Two words in zstd's and xz's formats.
  const std::string zst("\x28\xb5\x2f\xfd\x24\x08\x41\x00\x00one two\n\x9a\x47\x4f\x5b", 21);
  const std::string xz(
      "\xfd"
      "7zXZ\x00\x00\x01\x69\x22\xde\x36",
      12);
  return {"0a" + text,
          "0b" + text,
          "1a" + lines,
          "2a[\"one\", \"two\"]",
          "2a[{\"text\": \"one\"}]",
          "2a" + lines,
          "3b" + gzipped(text),
          "4a" + gzipped(lines),
          "5a" + zst,
          "6a" + xz,
          "0a\xff\xfeo\0n\0",
          "0aPAR1\x15\x04"};
}

void run_documents(std::string_view input) {
  const std::size_t name = input.empty() ? 0 : static_cast<unsigned char>(input[0]) % 16 % std::size(kNames);
  DocumentOptions options;
  options.separator = input.size() > 1 && input[1] % 2 == 0 ? "###" : "";
  options.normalize_whitespace = input.size() > 1 && input[1] % 4 == 0;
  const auto path = input_file(cat("documents/", kNames[name]), input.substr(std::min<std::size_t>(input.size(), 2)));
  DocumentReader reader(path, options);
  constexpr std::int64_t kMost = 1 << 24;
  std::int64_t bytes = 0;
  for (std::string document; bytes < kMost && reader.next(document);) {
    promise(!document.empty(), "an empty document");
    bytes += static_cast<std::int64_t>(document.size());
  }
  promise(reader.bytes_read() >= 0, "a negative place in the file");
}

const Registration kDocuments(
    {"documents", run_documents, document_seeds, {"text", "###", "\xef\xbb\xbf", "\x1f\x8b\x08"}});

std::vector<std::string> token_row_seeds() {
  return {R"({"ids": [[1, 2, 3], [4], []]})", R"({"ids": [[0, 2147483647]]})"};
}

void run_token_rows(std::string_view input) {
  for (const auto& row : read_token_rows(input_file("rows/rows.json", input)).rows) {
    for (const std::int32_t id : row) promise(id >= 0, "a negative id");
  }
}

const Registration kTokenRows({"token_rows", run_token_rows, token_row_seeds, {"ids"}});

std::vector<std::string> shard_seeds() {
  std::vector<std::string> seeds;
  for (const std::int64_t width : {2, 4}) {
    ShardHeader header{width, 5, 2, 20, 300, std::string(32, 'a'), std::string(32, 'b')};
    std::string file = write_shard_header(header);
    for (std::int32_t token : {1, 2, 3, 4, 299})
      file.append(reinterpret_cast<const char*>(&token), static_cast<std::size_t>(width));
    file.resize(static_cast<std::size_t>(shard_index_offset(header)), '\0');
    for (const std::int64_t begin : {0, 3, 5}) file.append(reinterpret_cast<const char*>(&begin), sizeof begin);
    seeds.push_back(file);
  }
  return seeds;
}

void run_shard(std::string_view input) {
  const TokenShard shard(input_file("shard/a.mlat", input));
  std::vector<std::int32_t> tokens;
  for (std::int64_t document = 0; document < shard.documents(); ++document) {
    const std::int64_t begin = shard.document_begin(document), end = shard.document_begin(document + 1);
    promise(begin >= 0 && begin <= shard.tokens(), "a document outside the tokens");
    if (end < begin) continue;
    tokens.resize(static_cast<std::size_t>(end - begin));
    shard.read(begin, tokens);
    for (const std::int32_t id : tokens)
      promise(id >= 0 && id < shard.header().vocabulary, "an id outside the vocabulary");
  }
  tokens.resize(static_cast<std::size_t>(shard.tokens()));
  shard.read(0, tokens);
  shard.check_tokenizer(std::string(32, 'a'));
}

const Registration kShard({"token_shard", run_shard, shard_seeds, {"MLATOKEN"}});

}  // namespace
}  // namespace mla::fuzz
