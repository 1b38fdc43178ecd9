#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

#include "core/base/log.h"
#include "core/base/suggest.h"
#include "core/evaluate/generate.h"
#include "core/model/checkpoint.h"
#include "experiments/command.h"
#include "experiments/dtype.h"
#include "experiments/model_files.h"
#include "experiments/table.h"
#include "experiments/token_ids.h"

namespace mla {
namespace {

DecodePath parse_path(const std::string& name) {
  static const std::vector<std::pair<std::string, DecodePath>> paths = {
      {"auto", DecodePath::kAuto}, {"absorbed", DecodePath::kAbsorbed}, {"expanded", DecodePath::kExpanded}};
  std::vector<std::string> known;
  for (const auto& [path_name, path] : paths) {
    if (name == path_name) return path;
    known.push_back(path_name);
  }
  throw ConfigError(cat("--path: ", unknown_name(name, known)));
}

class Generate final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("model", model_, "MODEL", "a model folder, or a llama2.c .bin file");
    options.require("prompt", prompt_, "TEXT",
                    "the text to continue; may be empty where the tokenizer has a BOS token");
    options.add_count("tokens", options_.count, 1, "new tokens at most; the tokenizer's EOS ends the text earlier");
    options.add("tokenizer", tokenizer_, "PATH", "tokenizer file or folder; default: in the model's folder");
    options.add("temperature", options_.temperature, "T", "0: always the likeliest token");
    options.add_count("top-k", options_.top_k, 0, "sample among the K likeliest tokens; 0: all");
    options.add("top-p", options_.top_p, "P", "sample among the fewest likeliest tokens of this probability together");
    options.add("seed", options_.seed, "S", "of the sampling");
    options.add("path", path_, "PATH", "latent attention: auto | absorbed (in the latent space) | expanded");
    options.add("dtype", dtype_, "TYPE", "number type of the arithmetic and the cache: " + dtype_choices());
  }

  ExitCode run(Console& console) override {
    const at::ScalarType dtype = parse_dtype(dtype_, "--dtype");
    const DecodePath path = parse_path(path_);
    options_.validate("generate");
    const Geometry geometry = load_geometry(model_);
    const auto tokenizer = load_model_tokenizer(model_, tokenizer_, geometry);
    options_.stop = tokenizer->eos();
    const TokenIds prompt = {tokenizer->encode(prompt_, {.add_bos = true})};
    if (prompt.front().empty())
      throw ConfigError("--prompt: is empty, and the tokenizer has no BOS token to begin with");
    const Checkpoint checkpoint = load_checkpoint(model_, {.dtype = dtype});

    const auto start = std::chrono::steady_clock::now();
    const at::Tensor prompt_ids = ids_tensor(prompt),
                     new_ids = generate(checkpoint.decoder, prompt_ids, options_, path);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    report(console, checkpoint.decoder, *tokenizer, at::cat({prompt_ids, new_ids}, 1), new_ids.size(1), seconds);
    return ExitCode::kDone;
  }

 private:
  /// Counted in the buffers of a cache that holds these tokens.
  static std::int64_t cache_bytes(const Decoder& decoder, const at::Tensor& ids) {
    const at::NoGradGuard no_grad;
    DecoderCache cache = decoder.make_cache(1);
    decoder.forward_cached(ids, cache);
    return cache.bytes();
  }

  /// Models may have embeddings beyond the tokenizer's ids, as padding; they stand for no text.
  static std::string decode(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
    std::vector<std::int32_t> known;
    std::copy_if(ids.begin(), ids.end(), std::back_inserter(known),
                 [&](auto id) { return id < tokenizer.vocabulary_size(); });
    return tokenizer.decode(known);
  }

  void report(Console& console, const Decoder& decoder, const Tokenizer& tokenizer, const at::Tensor& all,
              std::int64_t count, double seconds) const {
    const at::Tensor narrow = all.squeeze(0).to(at::kInt).contiguous();
    const std::int32_t* data = narrow.const_data_ptr<std::int32_t>();
    const std::vector<std::int32_t> ids(data, data + narrow.numel());
    const std::vector<std::int32_t> new_ids(ids.end() - count, ids.end());
    const std::string text = decode(tokenizer, ids);
    const double rate = static_cast<double>(count) / seconds;
    const std::int64_t bytes = cache_bytes(decoder, all);
    console.text() << text << '\n';
    log_info(cat(count, " tokens, ", rounded(rate, 4), " tokens/s; the cache of ", ids.size(), " tokens holds ",
                 grouped(bytes), " bytes"));
    console.report({{"text", text},
                    {"ids", new_ids},
                    {"prompt_tokens", ids.size() - new_ids.size()},
                    {"seconds", seconds},
                    {"tokens_per_second", rate},
                    {"cached_tokens", ids.size()},
                    {"cache_bytes", bytes}});
  }

  std::filesystem::path model_;
  std::optional<std::filesystem::path> tokenizer_;
  std::string prompt_, path_ = "auto", dtype_ = "float32";
  GenerateOptions options_;
};

const CommandRegistration<Generate> kGenerate(
    "generate", "continue a prompt",
    {"mlaforge generate --model ../shared/data/weights/stories260K/stories260K.bin --prompt 'Once upon a time' "
     "--tokens 100",
     "mlaforge generate --model MODEL --prompt 'Once upon a time' --temperature 0.8 --top-p 0.9 --seed 7 --json"});

}  // namespace
}  // namespace mla
