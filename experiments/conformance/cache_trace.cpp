#include "experiments/conformance/cache_trace.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <regex>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/evaluate/cached_perplexity.h"
#include "core/model/checkpoint.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

constexpr double kPlainTolerance = 1e-4;  // nats a token
constexpr double kTokenTolerance = 1e-3;
constexpr double kMeanTolerance = 1e-2;            // where single codes flip
constexpr std::int64_t kMostResidual = 1 << 20;    // tokens: memory is kept for them
constexpr std::size_t kLongestDescription = 1000;  // of a cache: it is looked through by regular expressions

/// The value of "key=…" in a description, or "".
std::string value_of(const std::string& text, const std::string& key) {
  std::smatch match;
  const std::regex pattern("(^|[\\s,=])" + key + "=(axis_value=)?([^\\s,]+)");
  return std::regex_search(text, match, pattern) ? match[3].str() : std::string();
}

std::int64_t parse_count(const std::string& digits, const std::string& text, const std::string& what,
                         const std::string& where) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size())
    throw DataError(cat(where, ": expected ", what, " in '", text, "'"));
  return value;
}

std::int64_t number_of(const std::string& text, const std::string& key, const std::string& where) {
  return parse_count(value_of(text, key), text, key + "=N", where);
}

/// Tokens that stay as they are.
std::int64_t residual_of(const std::string& text, const std::string& key, const std::string& where) {
  const std::int64_t residual = number_of(text, key, where);
  if (residual < 0 || residual > kMostResidual)
    throw DataError(cat(where, ": ", key, "=", residual, " in '", text, "': must be between 0 and ", kMostResidual));
  return residual;
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
  if (std::regex_search(text, match, std::regex("\\bprompt([0-9]+)\\b")))
    prompt = parse_count(match[1].str(), text, "promptN", where);
  std::int64_t chunks = 1;
  if (std::regex_search(text, match, std::regex("\\bchunks([0-9]+)\\b")))
    chunks = parse_count(match[1].str(), text, "chunksN", where);
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

std::vector<double> expected_nll(const Json& run, std::int64_t tokens, const std::string& where) {
  std::vector<double> nll = expected::numbers(run, "nll", where);
  if (std::ssize(nll) != tokens)
    throw DataError(
        cat(where, ".nll: expected ", tokens, " numbers, one for each id but the first, found ", nll.size()));
  return nll;
}

TraceResult replay(const std::string& name, const Json& run, const Decoder& decoder, const at::Tensor& ids,
                   std::int64_t prompt, const std::string& where) {
  TraceResult result;
  result.name = name;
  const bool fails = expected::has(run, "failed");
  const std::string text = fails ? name : expected::text(run, "cache", where);
  if (text.size() > kLongestDescription)
    throw DataError(cat(where, ": a description of ", text.size(), " bytes; at most ", kLongestDescription));
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
    elements += cached_elements(decoder.spec());
    result.effective_bits = 8.0 * static_cast<double>(cache.bytes()) / static_cast<double>(elements * cache.length());
    result.requantised = requantised_lengths(traced, description);
  } catch (const ConfigError& error) {
    result.refused = error.what();
    result.passed = fails;
    return result;
  }
  if (fails) return result;
  const std::vector<double> wanted = expected_nll(run, tokens, where);
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
                             {UpdateRule::kRequantize, residual_of(text, "residual_length", where), 0});
  } else if (text.starts_with("KIVI")) {
    const Json codec = {
        {"name", "kivi"}, {"bits", number_of(text, "bits", where)}, {"group_size", number_of(text, "group", where)}};
    cache.format = format_of(codec, {UpdateRule::kAppendOnly, residual_of(text, "residual", where), 0});
  } else if (!text.starts_with("none") && !text.starts_with("DynamicCache")) {
    throw DataError(cat(where, ": no cache '", text, "'; known: QuantizedCache, KIVI, DynamicCache, none"));
  }
  return cache;
}

std::vector<TraceResult> replay_traces(const std::filesystem::path& file, const std::filesystem::path& model,
                                       const std::string& only, const LoadOptions& loading) {
  const Json trace = read_json(file);
  if (!trace.is_object()) throw DataError(cat(file.string(), ": expected an object, found ", expected::found(trace)));
  const Json& runs = expected::object(trace, "runs", file.string());
  for (const auto& [name, run] : runs.items()) {
    if (!run.is_object())
      throw DataError(cat(file.string(), ".runs.", name, ": expected an object, found ", expected::found(run)));
  }
  const Checkpoint checkpoint = load_checkpoint(model, loading);
  const auto ids = expected::ids(trace, "ids", checkpoint.decoder.spec().vocabulary - 1, file.string());
  // The first id is given, the rest is predicted: a prompt leaves something to decode.
  if (ids.size() < 3) throw DataError(cat(file.string(), ".ids: expected three ids at least, found ", ids.size()));
  const std::int64_t prompt = expected::whole_number(trace, "prompt", 1, std::ssize(ids) - 2, file.string());
  std::vector<TraceResult> results;
  for (const auto& [name, run] : runs.items()) {
    if (!only.empty() && name != only) continue;
    results.push_back(replay(name, run, checkpoint.decoder, at::tensor(ids, at::kLong).unsqueeze(0), prompt,
                             cat(file.string(), ".runs.", name)));
  }
  if (results.empty()) throw DataError(cat(file.string(), ": no run", only.empty() ? "s" : " '" + only + "'"));
  return results;
}

}  // namespace mla
