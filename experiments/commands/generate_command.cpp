#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/fields.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/suggest.h"
#include "core/evaluate/end_tokens.h"
#include "core/evaluate/generate.h"
#include "core/model/checkpoint.h"
#include "core/text/chat.h"
#include "experiments/cache/cache_check.h"
#include "experiments/cache/model_cache.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/data/evaluation_text.h"
#include "experiments/model/decode_path.h"
#include "experiments/model/model_files.h"
#include "experiments/model/placement_options.h"

namespace mla {
namespace {

/// The text of one sequence as it grows.
class GrowingText {
 public:
  GrowingText(const Tokenizer& tokenizer, std::vector<std::int32_t> prompt)
      : tokenizer_(tokenizer), ids_(std::move(prompt)), text_(decode()), prompt_bytes_(text_.size()) {}

  void add(std::int64_t token) {
    // Models may have embeddings beyond the tokenizer's ids, as padding; they stand for no text.
    if (token >= tokenizer_.vocabulary_size()) return;
    ids_.push_back(static_cast<std::int32_t>(token));
    text_ = decode();
  }

  /// Ends the text before the first of the strings that stands behind the prompt; returns whether one does.
  bool cut_at(const std::vector<std::string>& stops) {
    std::size_t first = std::string::npos;
    for (const std::string& stop : stops) first = std::min(first, text_.find(stop, prompt_bytes_));
    if (first != std::string::npos) text_.resize(first);
    return first != std::string::npos;
  }

  /// What may be shown beyond `shown` bytes: no character that is not complete, nothing that a stop string may begin
  /// with. (A run of byte tokens that a later one makes no UTF-8 becomes replacement characters as a whole; what was
  /// shown of it stays.)
  std::string_view ready(std::size_t shown, const std::vector<std::string>& stops) const {
    std::size_t end = text_.size();
    static constexpr std::string_view kIncomplete = "\xEF\xBF\xBD";
    while (end >= shown + 3 && std::string_view(text_).substr(end - 3, 3) == kIncomplete) end -= 3;
    for (const std::string& stop : stops) {
      for (std::size_t part = std::min(stop.size() - 1, end - std::min(end, shown)); part > 0; --part) {
        if (text_.compare(end - part, part, stop, 0, part) != 0) continue;
        end -= part;
        break;
      }
    }
    return end > shown ? std::string_view(text_).substr(shown, end - shown) : std::string_view();
  }

  const std::string& text() const { return text_; }

 private:
  std::string decode() const { return tokenizer_.decode(ids_); }

  const Tokenizer& tokenizer_;
  std::vector<std::int32_t> ids_;
  std::string text_;
  std::size_t prompt_bytes_;
};

class Generate final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("model", model_, "MODEL", "a model folder, a GGUF or a llama2.c .bin file");
    options.require("prompt", prompts_, "TEXT",
                    "the text to continue, may be empty where the tokenizer has a BOS token; repeat it for a batch");
    options.add_count("new-tokens", options_.count, 1, "at most; the tokenizer's EOS ends the text earlier");
    options.renamed("tokens", "new-tokens");
    options.add("tokenizer", tokenizer_, "PATH", "tokenizer file or folder; default: in the model's folder");
    options.flag(
        "chat", chat_,
        "ask each prompt as a user's question, by the model's chat template (ChatML, Llama 2, Llama 3, Mistral, "
        "Zephyr), and show the answer alone");
    options.add("system", system_, "TEXT",
                "with --chat: the system message; default: the template's own, if it has one");
    options.add("temperature", options_.temperature, "T", "0: always the likeliest token");
    options.add_count("top-k", options_.top_k, 0, "sample among the K likeliest tokens; 0: all");
    options.add("top-p", options_.top_p, "P", "sample among the fewest likeliest tokens of this probability together");
    options.add("repetition-penalty", options_.repetition_penalty, "R",
                "positive logits of tokens that occurred are divided by it, negative ones multiplied; 1: none");
    options.add("stop", stops_, "TEXT", "end before this string; repeatable");
    options.add("seed", options_.seed, "S", "of the sampling");
    options.add_count("prefill-chunk", options_.prefill_chunk, 0, "feed the prompt N tokens at a time; 0: all at once");
    options.add("path", path_, "PATH", "latent attention: auto | absorbed (in the latent space) | expanded");
    options.add("cache", cache_, "CACHE",
                "how the cache is stored: plain, a codec's name and bits (hqq4), a JSON object or file; default: as "
                "cache.json in the model's folder says, else plain");
    options.add("calibration", calibration_.file, "FILE",
                "text to calibrate the cache's codec on, where it needs that (kvquant)");
    model_options_.declare(options, "number type of the arithmetic and the cache");
  }

  ExitCode run(Console& console) override {
    const LoadOptions loading = model_options_.loading();
    const DecodePath path = parse_decode_path(path_, "--path");
    options_.validate("generate");
    if (std::any_of(stops_.begin(), stops_.end(), [](const std::string& stop) { return stop.empty(); })) {
      throw ConfigError("--stop: is empty; expected a string that ends the text");
    }
    const CacheConfig cache = cache_ ? parse_cache_config(*cache_, "--cache") : cache_of_model(model_);
    check_calibration(cache, !calibration_.file.empty(), "--cache", "name it with --calibration FILE");
    if (!calibration_.file.empty() && !needs_calibration(cache)) {
      throw ConfigError(cat("--calibration: the cache ", cache.label(), " needs none"));
    }
    if (system_ && !chat_) throw ConfigError("--system: a message of a chat; say --chat, too");
    const ModelSpec spec = load_spec(model_);
    const auto tokenizer = load_model_tokenizer(model_, tokenizer_, spec);
    options_.stop = end_tokens(spec, *tokenizer);
    std::optional<Chat> chat;
    if (chat_) chat.emplace(place_of_tokenizer(model_, tokenizer_), *tokenizer, system_);
    if (chat && chat->end()) options_.stop.push_back(*chat->end());
    options_.cache_last = true;
    std::vector<std::vector<std::int64_t>> ids;
    std::vector<GrowingText> texts;
    for (const std::string& prompt : prompts_) {
      const std::vector<std::int32_t> tokens = chat ? chat->ask(prompt) : tokenizer->encode(prompt, {.add_bos = true});
      if (tokens.empty()) throw ConfigError("--prompt: is empty, and the tokenizer has no BOS token to begin with");
      check_room(spec, std::ssize(tokens));
      check_cache(cache, spec, {std::ssize(tokens), std::ssize(tokens) + options_.count}, "--cache");
      ids.emplace_back(tokens.begin(), tokens.end());
      texts.emplace_back(*tokenizer, chat_ ? std::vector<std::int32_t>() : tokens);
    }
    EvaluationRows calibration;
    if (needs_calibration(cache)) {
      calibration = read_evaluation_rows(calibration_, model_, tokenizer_, spec, console.workers());
    }
    Checkpoint checkpoint = load_checkpoint(model_, loading);
    CacheSamples samples;
    if (needs_calibration(cache)) samples = sample_cache(checkpoint.decoder, calibration.rows, {});
    const CacheFormat format = cache_format(cache, "--cache", std::move(samples));
    checkpoint.decoder.prepare_decode();

    install_interrupt_handler();
    const bool streams = prompts_.size() == 1;
    std::size_t shown = 0;
    const auto show = [&](std::string_view piece) {
      console.text() << piece << std::flush;
      shown += piece.size();
    };
    if (streams) show(texts[0].ready(0, {}));
    const GenerateReport report =
        generate(checkpoint.decoder, ids, options_, path, format, [&](std::int64_t row, std::int64_t token) {
          GrowingText& text = texts[static_cast<std::size_t>(row)];
          if (token != tokenizer->eos()) text.add(token);
          const bool stopped = text.cut_at(stops_);
          if (streams) show(text.ready(shown, stopped ? std::vector<std::string>{} : stops_));
          return !stopped;
        });
    if (streams) show(std::string_view(texts[0].text()).substr(std::min(shown, texts[0].text().size())));
    for (std::size_t i = 0; !streams && i < texts.size(); ++i)
      console.text() << (i > 0 ? "\n" : "") << texts[i].text() << '\n';
    if (streams) console.text() << '\n';
    tell(console, report, ids, texts);
    const bool stopped = std::any_of(report.sequences.begin(), report.sequences.end(),
                                     [](const auto& sequence) { return sequence.finish == Finish::kInterrupted; });
    if (stopped) check_interrupt();
    return ExitCode::kDone;
  }

 private:
  void check_room(const ModelSpec& spec, std::int64_t prompt) const {
    if (options_.count <= spec.max_positions - prompt || spec.rotary().depends_on_length()) return;
    throw ConfigError(cat("--new-tokens: ", prompt, " tokens of the prompt and ", options_.count,
                          " new ones are more than the model's context of ", spec.max_positions));
  }

  static Json sequence_json(const GeneratedSequence& sequence, const std::string& text, std::size_t prompt_tokens) {
    return {{"text", text},
            {"ids", sequence.tokens},
            {"prompt_tokens", prompt_tokens},
            {"finish", write_fields(sequence.finish)}};
  }

  void tell(Console& console, const GenerateReport& report, const std::vector<std::vector<std::int64_t>>& ids,
            const std::vector<GrowingText>& texts) const {
    const double rate = static_cast<double>(report.new_tokens()) / report.seconds;
    log_info(cat(report.new_tokens(), " tokens, ", rounded(rate, 4), " tokens/s, the first after ",
                 rounded(1000 * report.first_seconds, 3), " ms; the cache of ", report.cached_tokens, " tokens holds ",
                 grouped(report.cache_bytes), " bytes"));
    Json object =
        texts.size() == 1 ? sequence_json(report.sequences[0], texts[0].text(), ids[0].size()) : Json::object();
    for (std::size_t i = 0; i < texts.size() && texts.size() > 1; ++i) {
      object["sequences"].push_back(sequence_json(report.sequences[i], texts[i].text(), ids[i].size()));
    }
    object.update({{"seconds", report.seconds},
                   {"seconds_to_first_token", report.first_seconds},
                   {"tokens_per_second", rate},
                   {"cached_tokens", report.cached_tokens},
                   {"cache_bytes", report.cache_bytes},
                   {"predicted_cache_bytes", report.predicted_bytes},
                   {"allocated_cache_bytes", report.allocated_bytes}});
    console.report(object);
  }

  std::filesystem::path model_;
  std::optional<std::filesystem::path> tokenizer_;
  std::vector<std::string> prompts_, stops_;
  std::string path_ = "auto";
  PlacementOptions model_options_;
  std::optional<std::string> cache_, system_;
  bool chat_ = false;
  EvaluationText calibration_;
  GenerateOptions options_;
};

const CommandRegistration<Generate> kGenerate(
    "generate", "continue a prompt",
    {"mlaforge generate --model ../shared/data/weights/stories260K/stories260K.bin --prompt 'Once upon a time' "
     "--new-tokens 100",
     "mlaforge generate --model MODEL --prompt 'Once upon a time' --temperature 0.8 --top-p 0.9 --seed 7 --json",
     "mlaforge generate --model MODEL --prompt 'One' --prompt 'Two' --new-tokens 40 --stop '.' --repetition-penalty "
     "1.1",
     "mlaforge generate --model MODEL --prompt 'Once' --cache hqq4",
     "mlaforge generate --model MODEL --chat --prompt 'What is the capital of France?'"});

}  // namespace
}  // namespace mla
