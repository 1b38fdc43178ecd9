#include "experiments/conformance/cache_trace.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <regex>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/evaluate/cached_perplexity.h"
#include "core/model/checkpoint.h"

namespace mla {
namespace {

constexpr double kPlainTolerance = 1e-4;  // nats a token
constexpr double kTokenTolerance = 1e-3;
constexpr double kMeanTolerance = 1e-2;  // where single codes flip

/// The value of "key=…" in a description, or "".
std::string value_of(const std::string& text, const std::string& key) {
  std::smatch match;
  const std::regex pattern("(^|[\\s,=])" + key + "=(axis_value=)?([^\\s,]+)");
  return std::regex_search(text, match, pattern) ? match[3].str() : std::string();
}

std::int64_t number_of(const std::string& text, const std::string& key, const std::string& where) {
  const std::string value = value_of(text, key);
  try {
    return std::stoll(value);
  } catch (const std::exception&) {
    throw DataError(cat(where, ": expected ", key, "=N in '", text, "'"));
  }
}

/// The same storage for every stream, the codec as each stream needs it.
CacheFormat format_of(const Json& codec, StreamUpdate update) {
  const std::shared_ptr<const Codec> made = Registry<Codec>::instance().make(codec, "codec");
  return [made, update](std::int64_t, const StreamShape& stream) -> StreamStorage {
    return {made->for_stream(stream.name, nullptr), update};
  };
}

Json quantized_cache_codec(const std::string& text, const std::string& where) {
  const std::string backend = value_of(text, "backend");
  if (backend != "hqq" && backend != "HQQ" && backend != "quanto") {
    throw DataError(cat(where, ": backend '", backend, "' in '", text, "'; known: hqq, quanto"));
  }
  Json codec = {{"name", backend == "quanto" ? "quanto" : "hqq"},
                {"bits", number_of(text, "nbits", where)},
                {"axis", number_of(text, "axis_key", where)},
                {"group_size", number_of(text, "q_group_size", where)}};
  const std::string optimize = value_of(text, "optimize");
  if (!optimize.empty()) codec["optimize"] = optimize == "True" || optimize == "true";
  return codec;
}

/// "prompt192": so many tokens at first; "chunks2": the prompt in so many calls.
std::vector<std::int64_t> calls_of(const std::string& text, std::int64_t prompt, std::int64_t tokens,
                                   const std::string& where) {
  std::smatch match;
  if (std::regex_search(text, match, std::regex("\\bone [0-9]+-token call"))) return {tokens};
  if (std::regex_search(text, match, std::regex("\\bprompt([0-9]+)\\b"))) prompt = std::stoll(match[1].str());
  std::int64_t chunks = 1;
  if (std::regex_search(text, match, std::regex("\\bchunks([0-9]+)\\b"))) chunks = std::stoll(match[1].str());
  if (prompt < 1 || prompt > tokens || chunks < 1 || prompt % chunks != 0) {
    throw DataError(
        cat(where, ": a prompt of ", prompt, " tokens in ", chunks, " calls does not fit ", tokens, " tokens"));
  }
  std::vector<std::int64_t> calls(static_cast<std::size_t>(chunks), prompt / chunks);
  calls.resize(calls.size() + static_cast<std::size_t>(tokens - prompt), 1);
  return calls;
}

double mean(const std::vector<double>& values, std::int64_t begin, std::int64_t end) {
  return std::accumulate(values.begin() + begin, values.begin() + end, 0.0) / static_cast<double>(end - begin);
}

/// Lengths at which a cache that is encoded anew held no residual, the first call apart.
std::vector<std::int64_t> requantised_lengths(const TraceCache& cache, const std::string& text) {
  std::vector<std::int64_t> lengths;
  if (text.find("QuantizedCache") == std::string::npos) return lengths;
  const std::int64_t residual_length = number_of(text, "residual_length", "trace");
  std::int64_t length = cache.calls.front(), residual = 0;
  for (std::size_t i = 1; i < cache.calls.size(); ++i) {
    length += cache.calls[i];
    residual += cache.calls[i];
    if (residual < residual_length) continue;
    lengths.push_back(length);
    residual = 0;
  }
  return lengths;
}

TraceResult replay(const std::string& name, const Json& run, const Decoder& decoder, const at::Tensor& ids,
                   std::int64_t prompt, const std::string& where) {
  TraceResult result;
  result.name = name;
  const bool fails = run.contains("failed");
  const std::string text = fails ? name : run.at("cache").get<std::string>();
  const std::int64_t tokens = ids.size(1) - 1;
  try {
    // A failed run is described by its name alone: quanto4_axis-1_R128.
    std::smatch match;
    std::string description = text;
    if (fails && std::regex_match(text, match, std::regex("(hqq|quanto)([0-9]+)_axis(-?[0-9]+)_R([0-9]+).*"))) {
      description = cat("QuantizedCache backend=", match[1].str(), " nbits=", match[2].str(),
                        " axis_key=axis_value=", match[3].str(), " q_group_size=64 residual_length=", match[4].str());
    }
    const TraceCache traced = parse_trace_cache(description, prompt, tokens, where);
    DecoderCache cache = decoder.make_cache(1, traced.format);
    const at::Tensor nll = cached_nll(decoder, ids, cache, traced.calls).squeeze(0);
    result.nll.assign(nll.const_data_ptr<double>(), nll.const_data_ptr<double>() + nll.numel());
    expects(cache.bytes() == cache.predicted_bytes(),
            "the cache's buffers hold another number of bytes than predicted");
    std::int64_t elements = 0;
    for (const std::int64_t layer : decoder.cached_elements()) elements += layer;
    result.effective_bits = 8.0 * static_cast<double>(cache.bytes()) / static_cast<double>(elements * cache.length());
    result.requantised = requantised_lengths(traced, description);
  } catch (const ConfigError& error) {
    result.refused = error.what();
    result.passed = fails;
    return result;
  }
  if (fails) return result;
  const auto wanted = run.at("nll").get<std::vector<double>>();
  if (std::ssize(wanted) != tokens)
    throw DataError(cat(where, ".nll: ", wanted.size(), " values for ", tokens, " tokens"));
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    result.largest_difference = std::max(result.largest_difference, std::abs(wanted[i] - result.nll[i]));
  }
  result.mean_nll_prompt = mean(result.nll, 0, prompt);
  result.mean_nll_decode = mean(result.nll, prompt, tokens);
  result.expected_mean = mean(wanted, prompt, tokens);
  result.mean_difference = std::abs(result.mean_nll_decode - result.expected_mean);
  const bool plain = text.find("DynamicCache") != std::string::npos || text.starts_with("none");
  result.passed = plain ? result.largest_difference <= kPlainTolerance
                        : result.largest_difference <= kTokenTolerance || result.mean_difference <= kMeanTolerance;
  return result;
}

}  // namespace

Json TraceResult::to_json() const {
  if (!refused.empty()) return {{"passed", passed}, {"refused", refused}};
  return {{"passed", passed},
          {"mean_nll_prompt", mean_nll_prompt},
          {"mean_nll_decode", mean_nll_decode},
          {"expected_mean_nll_decode", expected_mean},
          {"max_abs_difference", largest_difference},
          {"mean_difference", mean_difference},
          {"lengths_at_requantisation", requantised},
          {"effective_bits", effective_bits},
          {"nll", nll}};
}

TraceCache parse_trace_cache(const std::string& text, std::int64_t prompt, std::int64_t tokens,
                             const std::string& where) {
  TraceCache cache;
  cache.calls = calls_of(text, prompt, tokens, where);
  if (text.starts_with("QuantizedCache")) {
    cache.format = format_of(quantized_cache_codec(text, where),
                             {UpdateRule::kRequantize, number_of(text, "residual_length", where), 0});
  } else if (text.starts_with("KIVI")) {
    const Json codec = {
        {"name", "kivi"}, {"bits", number_of(text, "bits", where)}, {"group_size", number_of(text, "group", where)}};
    cache.format = format_of(codec, {UpdateRule::kAppendOnly, number_of(text, "residual", where), 0});
  } else if (!text.starts_with("none") && !text.starts_with("DynamicCache")) {
    throw DataError(cat(where, ": no cache '", text, "'; known: QuantizedCache, KIVI, DynamicCache, none"));
  }
  return cache;
}

std::vector<TraceResult> replay_traces(const std::filesystem::path& file, const std::filesystem::path& model,
                                       const std::string& only, at::ScalarType arithmetic) {
  const Json trace = read_json(file);
  for (const char* key : {"ids", "prompt", "runs"}) {
    if (!trace.is_object() || !trace.contains(key))
      throw DataError(cat(file.string(), ": expected an object with '", key, "'"));
  }
  const Checkpoint checkpoint = load_checkpoint(model, {.dtype = arithmetic});
  const auto values = trace["ids"].get<std::vector<std::int64_t>>();
  const at::Tensor ids = at::tensor(values, at::kLong).unsqueeze(0);
  const std::int64_t vocabulary = checkpoint.decoder.geometry.vocabulary;
  for (const std::int64_t id : values) {
    if (id < 0 || id >= vocabulary)
      throw DataError(cat(file.string(), ": ids: ", id, " is outside the vocabulary of ", vocabulary));
  }
  std::vector<TraceResult> results;
  for (const auto& [name, run] : trace["runs"].items()) {
    if (!only.empty() && name != only) continue;
    results.push_back(replay(name, run, checkpoint.decoder, ids, trace["prompt"].get<std::int64_t>(),
                             cat(file.string(), ": runs.", name)));
  }
  if (results.empty()) throw DataError(cat(file.string(), ": no run", only.empty() ? "s" : " '" + only + "'"));
  return results;
}

}  // namespace mla
