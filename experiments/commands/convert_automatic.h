// Conversions to a budget of cached bytes, by whichever method loses least.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/model/save_in_shards.h"
#include "core/text/corpus.h"
#include "experiments/cli/command.h"
#include "experiments/model/placement_options.h"

namespace mla {

/// --budget, --bits and --fit-steps.
struct BudgetOptions {
  std::optional<std::string> budget, bits;
  std::optional<std::int64_t> fit_steps;

  void declare(OptionList& options);
  /// Whether a method is to be found: `method` is --method, `others` options that say what to do by themselves, "--set"
  /// for example, as far as they were given. Throws ConfigError for what does not go together, and where there is no
  /// `calibration` text.
  bool search(const std::optional<std::string>& method, const std::vector<std::string>& others, bool calibration) const;
};

struct AutomaticRequest {
  BudgetOptions options;
  std::filesystem::path model, output;
  LoadOptions loading;                    ///< of the source
  std::optional<at::ScalarType> weights;  ///< of new maps
  std::function<TokenRows(const Decoder& source)> calibration;
  std::int64_t shard_bytes = kShardBytes;  ///< of the files that the weights are written to, at most
};

/// Checks the request before any weight is read, tries candidates, writes the best with report.json and report.txt, and
/// prints and returns the report.
Json convert_automatically(const AutomaticRequest& request, Console& console);

}  // namespace mla
