#include "core/evaluate/generate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/random.h"

namespace mla {
namespace {

/// Logits of the next token, [batch, vocabulary], after each extension of a sequence.
class NextLogits {
 public:
  NextLogits(const Decoder& decoder, std::int64_t batch, std::int64_t final_length, DecodePath path)
      : decoder_(decoder), path_(path) {
    const Rotary rotary = decoder.geometry.rotary();
    recompute_ = rotary.depends_on_length() && final_length > rotary.max_positions();
    if (!recompute_) cache_ = decoder.make_cache(batch);
  }

  at::Tensor feed(const at::Tensor& ids) {
    if (!recompute_) return decoder_.forward_cached(ids, cache_, path_);
    all_ = all_.defined() ? at::cat({all_, ids}, 1) : ids;
    return decoder_.logits(decoder_.hidden_states(all_).select(1, all_.size(1) - 1));
  }

 private:
  const Decoder& decoder_;
  DecodePath path_;
  bool recompute_ = false;
  DecoderCache cache_;
  at::Tensor all_;
};

/// One token drawn from logits [vocabulary].
std::int64_t sample(const at::Tensor& logits, const GenerateOptions& options, RandomStream& stream) {
  const auto [sorted, order] = at::sort(logits.to(at::kCPU, at::kDouble) / options.temperature, true, -1, true);
  const std::int64_t most = options.top_k > 0 ? std::min(options.top_k, sorted.size(0)) : sorted.size(0);
  const at::Tensor probability = at::softmax(sorted.narrow(0, 0, most), 0);
  const at::Tensor cumulative = probability.cumsum(0);
  const std::int64_t kept =
      std::max<std::int64_t>(1, (cumulative - probability).lt(options.top_p).sum().item<std::int64_t>());
  const double* edges = cumulative.const_data_ptr<double>();
  const double drawn = stream.uniform() * edges[kept - 1];
  const std::int64_t index = std::min(std::upper_bound(edges, edges + kept, drawn) - edges, kept - 1);
  return order[index].item<std::int64_t>();
}

/// The next token of each row, [batch, 1].
at::Tensor choose(const at::Tensor& logits, const GenerateOptions& options, RandomStream& stream) {
  if (options.temperature == 0) return logits.argmax(-1, true);
  std::vector<std::int64_t> chosen;
  for (std::int64_t row = 0; row < logits.size(0); ++row) chosen.push_back(sample(logits[row], options, stream));
  return at::tensor(chosen, at::kLong).unsqueeze(1).to(logits.device());
}

}  // namespace

void GenerateOptions::validate(const std::string& path) const {
  check_at_least_one(path + ".count", count);
  check_not_negative(path + ".temperature", temperature);
  if (top_k < 0) throw ConfigError(cat(path, ".top_k: ", top_k, " is negative"));
  if (!(top_p > 0 && top_p <= 1)) throw ConfigError(cat(path, ".top_p: ", top_p, " is outside 0 < top_p <= 1"));
}

at::Tensor generate(const Decoder& decoder, const at::Tensor& prompt, const GenerateOptions& options, DecodePath path) {
  const at::NoGradGuard no_grad;
  options.validate("generate");
  expects(prompt.dim() == 2 && prompt.size(1) >= 1, "a prompt has at least one token");
  RandomStream stream(options.seed, "generate");
  NextLogits next(decoder, prompt.size(0), prompt.size(1) + options.count, path);
  at::Tensor fed = prompt.to(decoder.embedding.device());
  at::Tensor ended = at::zeros({prompt.size(0), 1}, fed.options().dtype(at::kBool));
  std::vector<at::Tensor> tokens;
  for (std::int64_t i = 0; i < options.count; ++i) {
    fed = choose(next.feed(fed), options, stream);
    if (options.stop) {
      fed = fed.masked_fill(ended, *options.stop);
      ended = fed.eq(*options.stop);
    }
    tokens.push_back(fed);
    if (options.stop && ended.all().item<bool>()) break;
  }
  return at::cat(tokens, 1);
}

at::Tensor greedy_continue(const Decoder& decoder, const at::Tensor& prompt, std::int64_t count, DecodePath path) {
  GenerateOptions options;
  options.count = count;
  return generate(decoder, prompt, options, path);
}

}  // namespace mla
