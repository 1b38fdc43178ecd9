#include <chrono>

#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/text/pack.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"

namespace mla {
namespace {

/// Sizes of all files together; found out before the work, with anything that is missing.
std::int64_t total_bytes(const std::vector<std::filesystem::path>& files) {
  std::int64_t total = 0;
  for (const auto& file : files) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(file, error);
    if (error) throw DataError(cat(file.string(), ": cannot be read: ", error.message()));
    total += static_cast<std::int64_t>(bytes);
  }
  return total;
}

/// Text to a token shard.
class Pack final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("tokenizer", tokenizer_, "PATH", "a tokenizer file, or a folder that holds one");
    options.require("output,o", output_, "FILE.mlat", "the shard");
    options.argument("files", files_, "FILES…",
                     "text, .jsonl or .json, also compressed by gzip, zstd or xz, in this order");
    options.add("field", options_.documents.jsonl_field, "NAME", "the field of each JSON object that holds the text");
    options.flag("skip-bad-lines", options_.documents.skip_bad_lines,
                 "leave out, and count, JSON lines that cannot be read or lack the field");
    options.add("separator", options_.documents.separator, "TEXT",
                "text between documents, for example '<|endoftext|>'; without it a text file is one document");
    options.flag("normalize-whitespace", options_.documents.normalize_whitespace,
                 "strip each line, make runs of white space inside it one space, and drop empty lines");
    options.flag("no-bos", no_bos_, "leave out the special tokens that the tokenizer puts before a text");
    options.flag("eos", options_.eos, "end each document with the tokenizer's EOS token");
  }

  ExitCode run(Console& console) override {
    install_interrupt_handler();
    if (output_.extension() != kShardExtension) {
      throw ConfigError(cat("--output ", output_.string(), ": a shard's name ends in ", kShardExtension,
                            ", by which configs know it"));
    }
    const std::vector<std::filesystem::path> files(files_.begin(), files_.end());
    const std::int64_t bytes = total_bytes(files);
    const auto tokenizer = load_tokenizer(tokenizer_);
    if (options_.eos && !tokenizer->eos()) {
      throw ConfigError(cat("--eos: the tokenizer ", tokenizer_.string(), " names no EOS token"));
    }
    if (output_.has_parent_path()) std::filesystem::create_directories(output_.parent_path());
    options_.bos = !no_bos_;
    options_.threads = console.workers();
    const auto start = std::chrono::steady_clock::now();
    const ShardHeader shard = pack_with_progress(files, *tokenizer, bytes);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    print(shard, bytes, seconds.count(), console);
    return ExitCode::kDone;
  }

 private:
  ShardHeader pack_with_progress(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer,
                                 std::int64_t bytes) const {
    Progress bar("pack", bytes, "bytes");
    return pack(files, tokenizer, options_, output_, [&](std::int64_t count, std::int64_t tokens) {
      bar.advance(count, [&] { return grouped(tokens) + " tokens"; });
      check_interrupt();
    });
  }

  void print(const ShardHeader& shard, std::int64_t bytes, double seconds, Console& console) const {
    const double rate = static_cast<double>(shard.tokens) / seconds;
    console.report({{"output", output_.string()},
                    {"tokens", shard.tokens},
                    {"documents", shard.documents},
                    {"bytes", bytes},
                    {"text_bytes", shard.text_bytes},
                    {"skipped_lines", shard.skipped},
                    {"shard_bytes", shard_file_bytes(shard)},
                    {"bytes_per_token", shard.bytes_per_token},
                    {"tokenizer_hash", shard.tokenizer_hash},
                    {"content_hash", shard.content_hash},
                    {"seconds", seconds},
                    {"tokens_per_second", rate}});
    console.text() << grouped(shard.documents) << " documents, " << grouped(shard.tokens) << " tokens of "
                   << shard.bytes_per_token << " bytes, " << rounded(rate, 3) << " tokens/s; written to "
                   << output_.string() << "\n";
  }

  std::filesystem::path tokenizer_, output_;
  std::vector<std::string> files_;
  PackOptions options_;
  bool no_bos_ = false;
};

const CommandRegistration<Pack> kPack(
    "pack", "text to a token shard, which training reads without loading it",
    {"mlaforge pack --tokenizer results/demo/data/tokenizer.json --separator '<|endoftext|>' --output "
     "results/demo/data/train.mlat results/demo/data/train.txt",
     "mlaforge pack --tokenizer ../shared/data/tokenizers/smollm --eos --output results/redpajama.mlat "
     "../shared/data/corpora/redpajama_sample/sample_c4-rp1.jsonl"});

}  // namespace
}  // namespace mla
