#include "experiments/commands/convert_automatic.h"

#include <algorithm>
#include <functional>
#include <sstream>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "experiments/automatic/automatic_report.h"
#include "experiments/automatic/budget.h"
#include "experiments/automatic/search.h"
#include "experiments/cache/model_cache.h"
#include "experiments/cli/comma_list.h"
#include "experiments/commands/conversion_report.h"

namespace mla {
namespace {

constexpr const char* kAutomatic = "auto";
constexpr const char* kReport = "report.json";
constexpr const char* kReportText = "report.txt";
const std::vector<std::int64_t> kBits = {16, 8, 4};
/// Tokens of the cache in which bytes are counted.
constexpr std::int64_t kCountedTokens = 64;

std::vector<std::int64_t> parse_bits(const std::string& text) {
  std::vector<std::int64_t> bits = whole_numbers(text, "--bits", 1);
  std::sort(bits.rbegin(), bits.rend());
  const bool known = std::includes(kBits.begin(), kBits.end(), bits.begin(), bits.end(), std::greater<>());
  if (!known || std::adjacent_find(bits.begin(), bits.end()) != bits.end())
    throw ConfigError(cat("--bits ", text, ": expected some of 16, 8 and 4, joined by commas"));
  return bits;
}

}  // namespace

void BudgetOptions::declare(OptionList& options) {
  options.add("budget", budget, "SIZE",
              "what may be cached per token, all layers together: a share of the source's cache, as 20%, or bytes; "
              "without --method by whichever method loses least");
  options.add("bits", bits, "N,M,…",
              "--budget: bits of a cached value that are tried, 16 (as it is) and codes of 8 and 4; default: 16,8,4");
  options.add_count(
      "fit-steps", fit_steps, 0,
      "--budget: steps for which each layer of the best conversion is then trained to give what the source's "
      "gives; 0: none; default: 300, fewer or none where that takes long");
}

bool BudgetOptions::search(const std::optional<std::string>& method, const std::vector<std::string>& others,
                           bool calibration) const {
  const bool automatic = method == kAutomatic;
  if (!automatic && !budget) {
    for (const auto& [given, name] :
         {std::pair{bits.has_value(), "--bits"}, std::pair{fit_steps.has_value(), "--fit-steps"}}) {
      if (given) throw ConfigError(cat(name, ": belongs to --budget; name one"));
    }
    return false;
  }
  if (!budget)
    throw ConfigError("--budget: --method auto needs one: a share of the source's cache, as 20%, or bytes per token");
  if (!automatic && method)
    throw ConfigError(cat("--budget: --method ", *method, " takes its size by --cached or --set; leave one out"));
  if (!others.empty())
    throw ConfigError(cat(others.front(), ": the method is looked for at --budget; leave one of them out"));
  if (!calibration)
    throw ConfigError(
        "--calibration: methods are measured on data; name a text file or JSON {\"ids\": [[…]]}, mixed text best");
  return true;
}

Json convert_automatically(const AutomaticRequest& request, Console& console) {
  const CacheBudget budget = CacheBudget::parse(*request.options.budget, "--budget");
  const ModelSpec spec = load_spec(request.model, request.loading.weights);
  AutomaticOptions options;
  options.bits = request.options.bits ? parse_bits(*request.options.bits) : kBits;
  options.fit_steps = request.options.fit_steps;
  options.bytes = budget.per_token(kBytesOfElement * cached_elements(spec), "--budget");
  options.arithmetic = request.loading.placement.compute;
  options.weights = request.weights;
  AutomaticResult plan = plan_automatic(options, spec, cat("--budget ", budget.stated));

  Checkpoint checkpoint = load_checkpoint(request.model, request.loading);
  const TokenRows rows = request.calibration(checkpoint.decoder);
  AutomaticResult result = search_automatic(std::move(plan), options, checkpoint.decoder, rows.rows, "--calibration");
  const std::int64_t bits = result.candidates[result.chosen].bits;
  const CacheConfig cache = codes_of(bits);
  const CacheBytes bytes = count_cache_bytes(result.decoder->spec(), cache_format(cache, "cache"), kCountedTokens,
                                             at::TensorOptions(at::kBFloat16));
  expects(bytes.counted <= options.bytes * kCountedTokens, "the cache's buffers keep the budget");

  Json report = automatic_json(result, spec, bytes, kCountedTokens);
  report["budget"] = {{"stated", budget.stated}, {"bytes_per_token", options.bytes}};
  report["model"] = request.model.string();
  report["output"] = request.output.string();
  checkpoint.decoder = std::move(*result.decoder);
  Json layers = conversion_json(result.reports, spec);
  layers["weight_bytes"] = checkpoint.decoder.weight_bytes();
  layers["output"] = request.output.string();
  layers["compress"] = result.compress;
  save_checkpoint(checkpoint, request.output, request.shard_bytes);
  write_cache_of_model(request.output, cache);
  write_json(request.output / kConversionFile, layers);
  std::ostringstream text;
  print_automatic(report, text);
  write_file_atomically(request.output / kReportText, text.str());
  write_json(request.output / kReport, report);
  console.text() << text.str() << "written to " << request.output.string() << "\n";
  return report;
}

}  // namespace mla
