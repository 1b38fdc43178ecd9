// Which strategy, pairs, rank and bits the records recommend for a budget or a tolerated loss.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "analysis/figures/figure.h"

namespace mla {

/// One of the first three is given.
struct PlannerQuestion {
  std::optional<double> bytes_per_token;  ///< the cache may hold at most these
  std::optional<double> saved_percent;    ///< at least this share of the cache is to be saved
  std::optional<double> tolerance;        ///< the loss of quality against the model that is not compressed, in its unit
  bool tolerance_is_relative = false;     ///< `tolerance` is a share of that model's quality
  std::optional<double> energy;           ///< from spectra alone: share of the squared norm that each layer keeps
};

/// A config with what was measured of it.
struct PlannerCandidate {
  const RunGroup* group = nullptr;
  double bytes_per_token = 0, saved_percent = 0;
  GroupValue quality;
  double loss = 0;  ///< against the reference, positive when worse
};

/// What spectra of weights say before any training: ranks by layer.
struct SpectralPlan {
  std::string label;  ///< the record whose spectra these are: its selection and factorization
  double bytes_per_token = 0;
  std::int64_t uniform_rank = 0;    ///< of each layer alike
  double uniform_energy = 0;        ///< kept on average over layers
  std::vector<std::int64_t> ranks;  ///< of each layer, for the same budget
  double energy = 0;
  bool at_end_of_spectrum = false;  ///< a layer takes all that was recorded: more may be worth having
};

struct PlannerAnswer {
  bool measured = false;  ///< whether the question is one that scores answer, and records have some
  std::string reference;  ///< what losses are measured against
  double reference_quality = 0;
  std::vector<PlannerCandidate> fitting;  ///< that meet the question, the best first
  std::vector<PlannerCandidate> equal;    ///< of these, within one standard error of the best
  std::vector<SpectralPlan> spectral;
  std::vector<std::string> notes;
};

/// Throws ConfigError for a question without a limit, DataError when no record has both a cache and a quality.
PlannerAnswer plan(const FigureInput& input, const PlannerQuestion& question);

void print_plan(const FigureInput& input, const PlannerAnswer& answer, std::ostream& out);
Json plan_json(const FigureInput& input, const PlannerAnswer& answer);

}  // namespace mla
