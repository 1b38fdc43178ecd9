#include "experiments/cache/cache_check.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"

namespace mla {
namespace {

/// Codes of all tokens are made anew at these numbers of tokens (core/quantize/quantized_sequence.h).
void check_requantized(const Codec& codec, const StreamShape& stream, const CacheConfig& config,
                       const CachedTokens& tokens, const std::string& path) {
  const std::int64_t first = std::max(config.first_tokens, codec.first_tokens());
  std::int64_t waiting = 0;
  constexpr std::int64_t kFarthest = std::int64_t{1} << 17;  // tokens looked at; then no new remainders come
  for (std::int64_t held = 0; held < std::min(tokens.all, tokens.prompt + kFarthest);) {
    const std::int64_t come = held == 0 ? tokens.prompt : 1, exact = std::clamp<std::int64_t>(first - held, 0, come);
    const std::int64_t count = come - exact;
    const bool anew = count > 0 && (held == 0 || waiting + count >= config.residual);
    held += come;
    waiting = anew ? 0 : waiting + count;
    if (!anew) continue;
    codec.check(codec.joins_heads() ? std::vector<std::int64_t>{1, held - first, stream.elements()}
                                    : std::vector<std::int64_t>{stream.heads, held - first, stream.width},
                path + ".codec");
  }
}

void check_stream(const CacheConfig& config, const StreamShape& stream, const CachedTokens& tokens,
                  const std::string& path) {
  const Json& options = stream.name == "rope_key" ? config.rope_codec : config.codec;
  if (options.is_null() || stream.width == 0) return;
  const std::shared_ptr<const Codec> codec =
      Registry<Codec>::instance().make(options, path + ".codec")->for_stream(stream.name, nullptr);
  if (codec->needs_calibration()) return;  // what it can hold shows when it is calibrated
  const StreamUpdate update{config.update, config.residual, config.first_tokens};
  const QuantizedSequence sequence(codec, update, stream.heads, stream.width, at::TensorOptions(at::kFloat));
  if (config.update == UpdateRule::kRequantize) check_requantized(*codec, stream, config, tokens, path);
}

}  // namespace

void check_cache(const CacheConfig& config, const ModelSpec& spec, const CachedTokens& tokens,
                 const std::string& path) {
  if (config.is_plain()) return;
  std::vector<StreamShape> checked;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    for (const StreamShape& stream : spec.attention(layer).streams()) {
      if (std::find(checked.begin(), checked.end(), stream) != checked.end()) continue;
      checked.push_back(stream);
      try {
        check_stream(config, stream, tokens, path);
      } catch (const ConfigError& error) {
        throw ConfigError(cat(path, ": layer ", layer, ", ", stream.name, ": ", error.what()));
      }
    }
  }
}

void check_calibration(const CacheConfig& config, bool given, const std::string& path, const std::string& help) {
  if (given || !needs_calibration(config)) return;
  throw ConfigError(cat(path, ": ", config.label(), " needs a calibration on text; ", help));
}

}  // namespace mla
