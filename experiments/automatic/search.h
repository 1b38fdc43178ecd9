// Which conversion loses least at a budget of cached bytes, found out on calibration text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/compress/calibration/rows.h"
#include "core/compress/report.h"
#include "core/model/decoder.h"
#include "experiments/automatic/methods.h"

namespace mla {

struct AutomaticOptions {
  std::int64_t bytes = 0;          ///< per token, all layers together
  std::vector<std::int64_t> bits;  ///< of a cached value: 16, 8, 4; the first ones are tried first
  at::ScalarType arithmetic = at::kFloat;
  std::optional<at::ScalarType> weights;  ///< of new maps; absent: that of those they replace
  /// Steps for which the layers of the best conversions are fitted to the source's; absent: as many as pay.
  std::optional<std::int64_t> fit_steps;
};

/// One conversion on some rows, and what it predicts of others.
struct AutomaticTrial {
  std::string round;
  std::size_t rows = 0;
  std::int64_t held_out_tokens = 0;
  double nll = 0;  ///< nats per token; through the codes that the cache is stored as, where it is
  double seconds = 0;
};

/// A method at some number of bits, as large as the budget permits.
struct AutomaticCandidate {
  const AutomaticMethod* method = nullptr;
  std::int64_t bits = 0;
  CacheSize size;
  std::vector<AutomaticTrial> trials;
  std::string failed;  ///< why it could not be converted; empty: it could

  std::string name() const;
  double nll() const;  ///< the least of the last round's trials; infinite where that failed
};

struct AutomaticResult {
  std::vector<AutomaticCandidate> candidates;
  std::vector<std::pair<std::string, std::string>> skipped;  ///< what was not tried, and why
  std::size_t chosen = 0;                                    ///< of the candidates
  double nll = 0;                                            ///< of the model that was made of it
  Json compress;                                             ///< its passes, as a config lists them
  std::optional<Decoder> decoder;                            ///< the converted model
  std::vector<PassReport> reports;
  std::size_t measured_rows = 0, held_out_rows = 0;
  double source_nll = 0;
  /// The source as it is, its cache stored in codes that fit the budget.
  std::vector<AutomaticTrial> source_codes;
};

/// What is there to try for a model: throws ConfigError naming `path` where no method takes the model, and where the
/// budget is less than the least of them needs.
AutomaticResult plan_automatic(const AutomaticOptions& options, const ModelSpec& spec, const std::string& path);

/// Tries the candidates of `plan` in rounds: all methods on a few rows, the best two of them with other numbers of
/// bits, the best two of these at their best on all rows, and what came out best with its layers fitted. Every eighth
/// row is held out: nothing is measured on it but what candidates predict. Tells of each trial in the log and of the
/// progress. Throws DataError naming `path` for fewer than two rows, Interrupted after a signal.
AutomaticResult search_automatic(AutomaticResult plan, const AutomaticOptions& options, const Decoder& source,
                                 const TokenRowList& rows, const std::string& path);

}  // namespace mla
