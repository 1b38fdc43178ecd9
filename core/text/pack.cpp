#include "core/text/pack.h"

#include <deque>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/text/parallel_encoder.h"
#include "core/text/shard_writer.h"

namespace mla {
namespace {

constexpr std::size_t kGroupBytes = 64 << 10;       // enough to make the hand-over between threads cheap
constexpr std::size_t kUnderWayBytes = 32 << 20;    // text read ahead of the writer
constexpr std::size_t kLeastUnderWayPerThread = 2;  // groups, however large, so that no thread waits for the reader

/// Reads, encodes and writes with a bounded amount of text under way.
class Packer {
 public:
  Packer(const Tokenizer& tokenizer, const PackOptions& options, const std::filesystem::path& output,
         const PackProgress& progress)
      : options_(options),
        progress_(progress),
        writer_(output, tokenizer.vocabulary_size(), tokenizer.content_hash()),
        encoder_(tokenizer, {.add_bos = options.bos}, options.threads) {
    if (!options.eos) return;
    if (!tokenizer.eos()) throw DataError("the tokenizer names no EOS token to end documents with");
    eos_ = tokenizer.eos();
  }

  void add(const std::filesystem::path& file) {
    DocumentReader reader(file, options_.documents);
    std::int64_t reported = 0;
    for (std::string document; reader.next(document);) {
      group_bytes_ += document.size();
      group_.push_back(std::move(document));
      if (group_bytes_ >= kGroupBytes) {
        put(reader.bytes_read() - reported);
        reported = reader.bytes_read();
      }
    }
    put(reader.bytes_read() - reported);
    skipped_ += reader.skipped();
  }

  ShardHeader finish(const std::vector<std::filesystem::path>& files) {
    while (!under_way_.empty()) write_oldest();
    if (tokens_ == 0) {
      throw DataError(
          cat(files.front().string(), files.size() > 1 ? " and the other files" : "", ": the corpus is empty"));
    }
    ShardHeader header = writer_.finish();
    header.skipped = skipped_;
    return header;
  }

 private:
  struct UnderWay {
    std::size_t text_bytes;
    std::int64_t file_bytes;
  };

  /// Hands the collected documents to the encoder, once there is room.
  void put(std::int64_t file_bytes) {
    const std::size_t least = kLeastUnderWayPerThread * static_cast<std::size_t>(options_.threads);
    while (under_way_.size() > least && bytes_under_way_ + group_bytes_ > kUnderWayBytes) write_oldest();
    encoder_.put(std::exchange(group_, {}));
    under_way_.push_back({group_bytes_, file_bytes});
    bytes_under_way_ += std::exchange(group_bytes_, 0);
  }

  void write_oldest() {
    EncodedGroup group = encoder_.take();
    for (std::size_t i = 0; i < group.tokens.size(); ++i) {
      auto& tokens = group.tokens[i];
      if (eos_) tokens.push_back(*eos_);
      if (tokens.empty()) continue;
      writer_.add(tokens, std::ssize(group.documents[i]));
      tokens_ += std::ssize(tokens);
    }
    bytes_under_way_ -= under_way_.front().text_bytes;
    if (progress_) progress_(under_way_.front().file_bytes, tokens_);
    under_way_.pop_front();
  }

  const PackOptions& options_;
  const PackProgress& progress_;
  ShardWriter writer_;
  ParallelEncoder encoder_;
  std::optional<std::int32_t> eos_;
  std::vector<std::string> group_;
  std::size_t group_bytes_ = 0, bytes_under_way_ = 0;
  std::deque<UnderWay> under_way_;
  std::int64_t tokens_ = 0, skipped_ = 0;
};

}  // namespace

ShardHeader pack(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer,
                 const PackOptions& options, const std::filesystem::path& output, const PackProgress& progress) {
  Packer packer(tokenizer, options, output, progress);
  for (const auto& file : files) packer.add(file);
  return packer.finish(files);
}

}  // namespace mla
