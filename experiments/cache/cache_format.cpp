#include "experiments/cache/cache_format.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string_view>

#include "core/attention/limits.h"
#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/registry.h"
#include "core/base/yaml.h"

namespace mla {
namespace {

std::string name_of(const Json& codec) {
  const Json bits = codec.is_object() ? codec.value("bits", Json()) : Json();
  const Json name = codec.is_object() ? codec.value("name", Json("codec")) : codec;
  return (name.is_string() ? name.get<std::string>() : name.dump()) + (bits.is_null() ? "" : bits.dump());
}

/// How many letters begin a codec and its bits, "hqq4"; 0: it is something else.
std::size_t codec_letters(std::string_view text) {
  constexpr std::size_t kMostDigits = 4;
  const std::size_t letters = std::min(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), text.size());
  const std::string_view digits = text.substr(letters);
  return digits.size() <= kMostDigits && digits.find_first_not_of("0123456789") == std::string_view::npos ? letters : 0;
}

}  // namespace

StrategyFields CacheConfig::strategies() {
  return {{"codec", strategy_identity<Codec>}, {"rope_codec", strategy_identity<Codec>}};
}

void CacheConfig::validate(const std::string& path) const {
  if (residual < 0) throw ConfigError(cat(path, ".residual: ", residual, " is negative"));
  if (residual > kMostPositions || first_tokens > kMostPositions)
    throw ConfigError(
        cat(path, ".residual = ", residual, ", first_tokens = ", first_tokens, ": at most ", kMostPositions));
  if (first_tokens < 0) throw ConfigError(cat(path, ".first_tokens: ", first_tokens, " is negative"));
  if (!codec.is_null()) Registry<Codec>::instance().make(codec, path + ".codec");
  if (!rope_codec.is_null()) Registry<Codec>::instance().make(rope_codec, path + ".rope_codec");
}

std::string CacheConfig::label() const {
  if (is_plain()) return "plain";
  return (codec.is_null() ? "plain" : name_of(codec)) + (rope_codec.is_null() ? "" : "+" + name_of(rope_codec));
}

bool needs_calibration(const CacheConfig& config) {
  for (const Json& codec : {config.codec, config.rope_codec}) {
    if (!codec.is_null() && Registry<Codec>::instance().make(codec, "cache.codec")->needs_calibration()) return true;
  }
  return false;
}

CacheFormat cache_format(const CacheConfig& config, const std::string& path, CacheSamples samples) {
  if (config.is_plain()) return {};
  std::shared_ptr<const Codec> codec, rope;
  if (!config.codec.is_null()) codec = Registry<Codec>::instance().make(config.codec, path + ".codec");
  if (!config.rope_codec.is_null()) rope = Registry<Codec>::instance().make(config.rope_codec, path + ".rope_codec");
  const StreamUpdate update{config.update, config.residual, config.first_tokens};
  // Made once for all caches: a calibration may take a while.
  const auto made = std::make_shared<std::map<std::pair<std::int64_t, std::string>, std::shared_ptr<const Codec>>>();
  return [=, samples = std::move(samples)](std::int64_t layer, const StreamShape& stream) -> StreamStorage {
    const std::shared_ptr<const Codec>& chosen = stream.name == "rope_key" ? rope : codec;
    if (!chosen || stream.width == 0) return {};
    auto& own = (*made)[{layer, stream.name}];
    if (!own) {
      const auto sample = samples.find({layer, stream.name});
      if (sample == samples.end() && chosen->needs_calibration()) {
        throw ConfigError(cat(path, ".codec: ", name_of(stream.name == "rope_key" ? config.rope_codec : config.codec),
                              " needs a calibration: name its data"));
      }
      own = chosen->for_stream(stream.name, sample == samples.end() ? nullptr : &sample->second);
    }
    return {own, update};
  };
}

CacheConfig parse_cache_config(const std::string& text, const std::string& option) {
  CacheConfig config;
  if (text == "plain") return config;
  if (const std::size_t letters = codec_letters(text); letters > 0) {
    config.codec = {{"name", text.substr(0, letters)}};
    if (letters < text.size()) config.codec["bits"] = std::stoi(text.substr(letters));
  } else if ((text.ends_with(".json") || is_yaml(text)) && text.find('{') == std::string::npos) {
    read_fields(read_json_or_yaml(text), text, config);
  } else if (text.find('{') == std::string::npos) {
    throw ConfigError(cat(option, " = ", text,
                          ": expected plain, a codec and its bits, such as hqq4, a .json or .yaml ",
                          "file, or JSON in braces; known codecs: ", join(Registry<Codec>::instance().names())));
  } else {
    try {
      read_fields(parse_json(text, option), option, config);
    } catch (const DataError& error) {  // here it is the command line, not a file
      throw ConfigError(error.what());
    }
  }
  config.validate(option);
  return config;
}

}  // namespace mla
