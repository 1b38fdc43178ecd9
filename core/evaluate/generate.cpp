#include "core/evaluate/generate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/random.h"
#include "core/evaluate/sound_cache.h"
#include "core/kv_cache/stream.h"

namespace mla {
namespace {

using Prompts = std::vector<std::vector<std::int64_t>>;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::int64_t longest(const Prompts& rows) {
  std::int64_t length = 0;
  for (const auto& row : rows) length = std::max(length, std::ssize(row));
  return length;
}

/// Feeds a batch of sequences and keeps their caches; sequences that have ended leave it.
class Feeder {
 public:
  Feeder(const Decoder& decoder, const Prompts& prompts, const GenerateOptions& options, DecodePath path,
         const CacheFormat& format)
      : decoder_(decoder), path_(path), chunk_(options.prefill_chunk) {
    const Rotary rotary = decoder.spec().rotary();
    const std::int64_t final_length = longest(prompts) + options.count;
    recompute_ = rotary.depends_on_length() && final_length > rotary.steady_length();
    if (recompute_) return;
    cache_ = decoder.make_cache(std::ssize(prompts), format);
    cache_.reserve(final_length - (options.cache_last ? 0 : 1));
  }

  /// Logits [sequences, vocabulary] behind each sequence's tokens; a sequence without any gets arbitrary ones.
  at::Tensor feed(const Prompts& tokens) { return recompute_ ? recomputed(tokens) : cached(tokens); }

  /// Throws DataError for what the cache's codecs could not hold.
  void expect_sound() const {
    if (!recompute_) mla::expect_sound(decoder_, cache_);
  }

  /// Sequence i becomes what was sequence rows[i]; the others are gone, but counted.
  void keep(const std::vector<std::int64_t>& rows, GenerateReport& report) {
    expect_sound();
    if (recompute_) {
      Prompts kept;
      for (const std::int64_t row : rows) kept.push_back(all_[static_cast<std::size_t>(row)]);
      all_ = std::move(kept);
      return;
    }
    DecoderCache kept = cache_.select(at::tensor(rows, at::kLong));
    count(report);
    report.cached_tokens -= held(kept);
    report.cache_bytes -= kept.bytes();
    report.predicted_bytes -= kept.predicted_bytes();
    report.allocated_bytes -= kept.allocated_bytes();
    cache_ = std::move(kept);
  }

  /// Adds what the cache holds now.
  void count(GenerateReport& report) const {
    if (recompute_) return;
    report.cached_tokens += held(cache_);
    report.cache_bytes += cache_.bytes();
    report.predicted_bytes += cache_.predicted_bytes();
    report.allocated_bytes += cache_.allocated_bytes();
  }

 private:
  static std::int64_t held(const DecoderCache& cache) {
    std::int64_t total = 0;
    for (const std::int64_t length : cache.lengths()) total += length;
    return total;
  }

  at::Tensor recomputed(const Prompts& tokens) {
    all_.resize(tokens.size());
    std::vector<at::Tensor> logits;
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      all_[row].insert(all_[row].end(), tokens[row].begin(), tokens[row].end());
      const at::Tensor ids =
          at::tensor(all_[row], at::kLong).unsqueeze(0).to(at::device(decoder_.device()), /*non_blocking=*/true);
      logits.push_back(decoder_.logits(decoder_.hidden_states(ids).select(1, ids.size(1) - 1)));
    }
    return at::cat(logits);
  }

  /// Tokens begin … begin + length - 1 of each row, padded on the right.
  at::Tensor padded(const Prompts& rows, std::int64_t begin, std::int64_t length, std::vector<std::int64_t>& counts) {
    at::Tensor ids = at::zeros({std::ssize(rows), length}, at::kLong);
    std::int64_t* to = ids.mutable_data_ptr<std::int64_t>();
    for (const auto& row : rows) {
      const std::int64_t count = std::clamp<std::int64_t>(std::ssize(row) - begin, 0, length);
      std::copy_n(row.begin() + (count > 0 ? begin : 0), count, to);
      counts.push_back(count);
      to += length;
    }
    return ids.to(at::device(decoder_.device()), /*non_blocking=*/true);
  }

  at::Tensor cached(const Prompts& tokens) {
    const std::int64_t most = longest(tokens), step = chunk_ > 0 ? std::min(chunk_, most) : most;
    at::Tensor logits;
    for (std::int64_t begin = 0; begin < most; begin += step) {
      std::vector<std::int64_t> counts;
      const at::Tensor ids = padded(tokens, begin, std::min(step, most - begin), counts);
      const at::Tensor now = decoder_.forward_cached(ids, cache_, path_, counts);
      if (!logits.defined()) {
        logits = now;
        continue;
      }
      for (std::size_t row = 0; row < counts.size(); ++row) {
        const auto index = static_cast<std::int64_t>(row);
        if (counts[row] > 0) logits[index].copy_(now[index]);
      }
    }
    return logits;
  }

  const Decoder& decoder_;
  DecodePath path_;
  std::int64_t chunk_;
  bool recompute_ = false;
  DecoderCache cache_;
  Prompts all_;  ///< everything fed, where it is recomputed
};

/// The course of one batch.
class Course {
 public:
  Course(const Decoder& decoder, const Prompts& prompts, const GenerateOptions& options, DecodePath path,
         const CacheFormat& format, const TokenSink& sink)
      : options_(options), sink_(sink), feeder_(decoder, prompts, options, path, format) {
    report_.sequences.resize(prompts.size());
    for (std::size_t row = 0; row < prompts.size(); ++row) {
      expects(!prompts[row].empty(), "a prompt has at least one token");
      rows_.push_back(static_cast<std::int64_t>(row));
      streams_.emplace_back(options.seed, cat("generate.", options.first_row + static_cast<std::int64_t>(row)));
      if (options.repetition_penalty != 1) seen_.push_back(prompts[row]);
    }
    seen_.resize(prompts.size());
    ended_.assign(prompts.size(), false);
  }

  GenerateReport run(const Prompts& prompts) {
    const auto start = std::chrono::steady_clock::now();
    Prompts fed = prompts;
    for (std::int64_t i = 0; i < options_.count; ++i) {
      const at::Tensor computed = feeder_.feed(fed), logits = computed.to(at::kCPU);
      if (i > 0) ++report_.steps;
      // A cache elsewhere gives NaN for what it could not hold; the host told of it at once.
      if (!computed.is_cpu() && logits.isnan().any().item<bool>()) feeder_.expect_sound();
      fed = choose(logits);
      if (i == 0) report_.first_seconds = seconds_since(start);
      if (interrupted()) end_all(Finish::kInterrupted);
      if (std::all_of(ended_.begin(), ended_.end(), [](bool ended) { return ended; })) break;
      if (i + 1 < options_.count) drop_idle(fed);
    }
    report_.seconds = seconds_since(start);
    if (options_.cache_last && longest(fed) > 0) feeder_.feed(fed);
    feeder_.expect_sound();
    feeder_.count(report_);
    return std::move(report_);
  }

 private:
  /// The next token of each sequence in the batch, none for those that have ended.
  Prompts choose(const at::Tensor& logits) {
    Prompts chosen(rows_.size());
    at::Tensor likeliest;
    const bool greedy = options_.temperature == 0 && options_.repetition_penalty == 1;
    if (greedy) likeliest = logits.argmax(-1);
    for (std::size_t slot = 0; slot < rows_.size(); ++slot) {
      const auto row = static_cast<std::size_t>(rows_[slot]);
      if (ended_[row]) continue;
      const std::int64_t token =
          greedy ? likeliest.const_data_ptr<std::int64_t>()[slot]
                 : next_token(logits[static_cast<std::int64_t>(slot)], options_.sampling(), seen_[row], streams_[row]);
      GeneratedSequence& sequence = report_.sequences[row];
      sequence.tokens.push_back(token);
      if (options_.repetition_penalty != 1) seen_[row].push_back(token);
      if (sink_ && !sink_(rows_[slot], token)) end(row, Finish::kCaller);
      const bool stops = std::find(options_.stop.begin(), options_.stop.end(), token) != options_.stop.end();
      if (stops) end(row, Finish::kStop);
      if (!ended_[row] || options_.cache_last) chosen[slot].push_back(token);
    }
    return chosen;
  }

  void end(std::size_t row, Finish finish) {
    ended_[row] = true;
    report_.sequences[row].finish = finish;
  }
  void end_all(Finish finish) {
    for (const std::int64_t row : rows_) {
      if (!ended_[static_cast<std::size_t>(row)]) end(static_cast<std::size_t>(row), finish);
    }
  }

  /// Half of the batch at least must be at work.
  void drop_idle(Prompts& fed) {
    std::vector<std::int64_t> slots, rows;
    Prompts left;
    for (std::size_t slot = 0; slot < rows_.size(); ++slot) {
      if (fed[slot].empty()) continue;
      slots.push_back(static_cast<std::int64_t>(slot));
      rows.push_back(rows_[slot]);
      left.push_back(fed[slot]);
    }
    if (2 * slots.size() > rows_.size()) return;
    feeder_.keep(slots, report_);
    rows_ = std::move(rows);
    fed = std::move(left);
  }

  const GenerateOptions& options_;
  const TokenSink& sink_;
  Feeder feeder_;
  GenerateReport report_;
  std::vector<std::int64_t> rows_;  ///< of each sequence in the batch its number among the prompts
  std::vector<bool> ended_;         ///< by that number, as are the following
  std::vector<RandomStream> streams_;
  Prompts seen_;
};

}  // namespace

std::vector<std::pair<std::string, Finish>> enum_names(Finish) {
  return {{"length", Finish::kLength},
          {"stop", Finish::kStop},
          {"stop_string", Finish::kCaller},
          {"interrupted", Finish::kInterrupted}};
}

std::int64_t GenerateReport::new_tokens() const {
  std::int64_t total = 0;
  for (const GeneratedSequence& sequence : sequences) total += std::ssize(sequence.tokens);
  return total;
}

double GenerateReport::tokens_per_second() const {
  const double later = static_cast<double>(new_tokens() - std::ssize(sequences));
  return steps > 0 ? later / (seconds - first_seconds) : static_cast<double>(new_tokens()) / seconds;
}

void GenerateOptions::validate(const std::string& path) const {
  check_at_least_one(path + ".count", count);
  if (count > kMostPositions) throw ConfigError(cat(path, ".count: ", count, " is more than ", kMostPositions));
  check_not_negative(path + ".temperature", temperature);
  if (top_k < 0) throw ConfigError(cat(path, ".top_k: ", top_k, " is negative"));
  if (!(top_p > 0 && top_p <= 1)) throw ConfigError(cat(path, ".top_p: ", top_p, " is outside 0 < top_p <= 1"));
  if (!(repetition_penalty > 0)) {
    throw ConfigError(cat(path, ".repetition_penalty: ", repetition_penalty, " is not positive"));
  }
  if (prefill_chunk < 0) throw ConfigError(cat(path, ".prefill_chunk: ", prefill_chunk, " is negative"));
}

GenerateReport generate(const Decoder& decoder, const Prompts& prompts, const GenerateOptions& options, DecodePath path,
                        const CacheFormat& format, const TokenSink& sink) {
  const at::NoGradGuard no_grad;
  options.validate("generate");
  if (prompts.empty()) throw ConfigError("generate: a batch of no prompts; expected at least one");
  return Course(decoder, prompts, options, path, format, sink).run(prompts);
}

at::Tensor generate(const Decoder& decoder, const at::Tensor& prompt, const GenerateOptions& options, DecodePath path) {
  expects(prompt.dim() == 2 && prompt.size(1) >= 1, "a prompt has at least one token");
  const at::Tensor ids = prompt.to(at::kCPU, at::kLong).contiguous();
  Prompts prompts;
  for (std::int64_t row = 0; row < ids.size(0); ++row) {
    const std::int64_t* begin = ids.const_data_ptr<std::int64_t>() + row * ids.size(1);
    prompts.emplace_back(begin, begin + ids.size(1));
  }
  const GenerateReport report = generate(decoder, prompts, options, path);
  std::size_t length = 0;
  for (const GeneratedSequence& sequence : report.sequences) length = std::max(length, sequence.tokens.size());
  std::vector<at::Tensor> rows;
  for (const GeneratedSequence& sequence : report.sequences) {
    std::vector<std::int64_t> tokens = sequence.tokens;
    tokens.resize(length, tokens.empty() ? 0 : tokens.back());
    rows.push_back(at::tensor(tokens, at::kLong));
  }
  return at::stack(rows).to(decoder.device());
}

at::Tensor greedy_continue(const Decoder& decoder, const at::Tensor& prompt, std::int64_t count, DecodePath path) {
  const at::NoGradGuard no_grad;
  expects(prompt.dim() == 2 && prompt.size(1) >= 1 && count >= 1, "a prompt has at least one token");
  const Rotary rotary = decoder.spec().rotary();
  if (rotary.depends_on_length() && prompt.size(1) + count > rotary.steady_length()) {
    GenerateOptions options;
    options.count = count;
    return generate(decoder, prompt, options, path);
  }
  // Tokens stay where the model is: no step waits for another device.
  DecoderCache cache = decoder.make_cache(prompt.size(0));
  cache.reserve(prompt.size(1) + count - 1);
  at::Tensor fed = prompt.to(decoder.device());
  std::vector<at::Tensor> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    fed = decoder.forward_cached(fed, cache, path).argmax(-1, true);
    tokens.push_back(fed);
  }
  return at::cat(tokens, 1);
}

}  // namespace mla
