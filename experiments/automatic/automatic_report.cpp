#include "experiments/automatic/automatic_report.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "experiments/automatic/budget.h"
#include "experiments/cli/table.h"

namespace mla {
namespace {

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json trial_json(const AutomaticTrial& trial) {
  return {{"round", trial.round},
          {"rows", trial.rows},
          {"held_out_tokens", trial.held_out_tokens},
          {"held_out_nll", number_or_null(trial.nll)},
          {"seconds", trial.seconds}};
}

Json candidate_json(const AutomaticCandidate& candidate) {
  Json trials = Json::array();
  for (const AutomaticTrial& trial : candidate.trials) trials.push_back(trial_json(trial));
  Json json = {{"name", candidate.name()},
               {"method", candidate.method->name},
               {"bits", candidate.bits},
               {"cached_values_per_token", candidate.size.values},
               {"cached_bytes_per_token", candidate.size.bytes},
               {"held_out_nll", number_or_null(candidate.nll())},
               {"trials", trials}};
  if (!candidate.failed.empty()) json["failed"] = candidate.failed;
  return json;
}

/// The best of the others, in the last round that it took part in.
std::string runner_up(const AutomaticResult& result) {
  const AutomaticCandidate& chosen = result.candidates[result.chosen];
  const AutomaticCandidate* next = nullptr;
  for (const AutomaticCandidate& other : result.candidates) {
    if (&other == &chosen || other.trials.empty() || !other.failed.empty()) continue;
    const bool later = next && other.trials.back().rows > next->trials.back().rows;
    const bool as_late = !next || other.trials.back().rows == next->trials.back().rows;
    if (later || (as_late && (!next || other.nll() < next->nll()))) next = &other;
  }
  if (!next) return "; nothing else was there to try";
  return cat("; the next, ", next->name(), ", had ", rounded(next->nll(), 5), " in round ", next->trials.back().round);
}

std::string storage_text(std::int64_t bits) {
  if (codes_of(bits).is_plain())
    return "16 bits a value: with --dtype bfloat16 the cache holds just these bytes, with --dtype float32 twice as "
           "many, "
           "as the source's does";
  return cat("codes of ", bits, " bits, with a scale and a minimum in 16 bits for each row: ", kModelCacheFile,
             " says so, and `mlaforge generate` stores its cache that way; `mlaforge evaluate` measures it by --cache "
             "OUTPUT/",
             kModelCacheFile);
}

}  // namespace

Json automatic_json(const AutomaticResult& result, const ModelSpec& source, const CacheBytes& cache,
                    std::int64_t tokens) {
  const AutomaticCandidate& chosen = result.candidates[result.chosen];
  const std::int64_t source_bytes = kBytesOfElement * cached_elements(source);
  Json candidates = Json::array(), skipped = Json::array(), codes = Json::array();
  for (const AutomaticCandidate& candidate : result.candidates) candidates.push_back(candidate_json(candidate));
  for (const auto& [name, reason] : result.skipped) skipped.push_back({{"name", name}, {"reason", reason}});
  for (const AutomaticTrial& trial : result.source_codes)
    codes.push_back({{"bits", trial.round}, {"held_out_nll", number_or_null(trial.nll)}, {"seconds", trial.seconds}});
  const double share =
      static_cast<double>(cache.counted) / static_cast<double>(tokens) / static_cast<double>(source_bytes);
  Json best = {{"name", chosen.name()},
               {"method", chosen.method->name},
               {"bits", chosen.bits},
               {"compress", result.compress},
               {"cached_values_per_token", cached_elements(result.decoder->spec())},
               {"cached_bytes_per_token", (cache.counted + tokens - 1) / tokens},
               {"share_of_source", share},
               {"cache", {{"tokens", tokens}, {"predicted_bytes", cache.predicted}, {"counted_bytes", cache.counted}}},
               {"codec", codes_of(chosen.bits).is_plain() ? Json() : write_fields(codes_of(chosen.bits))},
               {"storage", storage_text(chosen.bits)},
               {"held_out_nll", result.nll},
               {"why", cat("least loss on held-out calibration text: ", rounded(result.nll, 5),
                           " nats per token, the source has ", rounded(result.source_nll, 5), runner_up(result))}};
  return {{"method", "auto"},
          {"chosen", best},
          {"source",
           {{"cached_bytes_per_token", source_bytes},
            {"cached_values_per_token", cached_elements(source)},
            {"held_out_nll", result.source_nll},
            {"in_codes", codes}}},
          {"calibration", {{"measured_rows", result.measured_rows}, {"held_out_rows", result.held_out_rows}}},
          {"candidates", candidates},
          {"skipped", skipped}};
}

void print_automatic(const Json& report, std::ostream& out) {
  const auto number = [](const Json& value) { return value.is_null() ? "" : rounded(value.get<double>(), 5); };
  const auto count = [](const Json& value) { return grouped(value.get<std::int64_t>()); };
  const Json &best = report["chosen"], &source = report["source"];
  out << "budget " << report["budget"]["stated"].get<std::string>() << ": "
      << count(report["budget"]["bytes_per_token"]) << " of the source's " << count(source["cached_bytes_per_token"])
      << " bytes per token (16 bits a value)\n\n";
  Table table({"candidate", "values/token", "bytes/token", "round", "rows", "held-out nats/token", "seconds"});
  for (const Json& candidate : report["candidates"]) {
    const auto row = [&](const std::string& round, const std::string& rows, const std::string& nll,
                         const std::string& seconds) {
      table.add({candidate["name"].get<std::string>(), count(candidate["cached_values_per_token"]),
                 count(candidate["cached_bytes_per_token"]), round, rows, nll, seconds});
    };
    for (const Json& trial : candidate["trials"])
      row(trial["round"].get<std::string>(), trial["rows"].dump(), number(trial["held_out_nll"]),
          rounded(trial["seconds"].get<double>(), 3));
    if (candidate["trials"].empty()) row(candidate.contains("failed") ? "failed" : "not tried", "", "", "");
  }
  table.print(out);
  out << "\nchosen: " << best["name"].get<std::string>() << ", " << count(best["cached_values_per_token"])
      << " values in " << count(best["cached_bytes_per_token"]) << " bytes per token, "
      << rounded(100 * best["share_of_source"].get<double>(), 4) << " % of the source's, counted in the buffers\n  "
      << best["why"].get<std::string>() << "\n  stored as " << best["storage"].get<std::string>() << "\n";
  for (const Json& code : source["in_codes"])
    out << "  the source unconverted, its cache in codes of " << code["bits"].get<std::string>()
        << ", fits as well and has " << number(code["held_out_nll"]) << "\n";
  out << "\nleft out:\n";
  for (const Json& skipped : report["skipped"])
    out << "  " << skipped["name"].get<std::string>() << ": " << skipped["reason"].get<std::string>() << "\n";
}

}  // namespace mla
