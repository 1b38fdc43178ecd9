#include "experiments/automatic/search.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <iterator>
#include <limits>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/compress/calibration/held_out.h"
#include "experiments/automatic/layer_fits.h"
#include "experiments/automatic/trial.h"
#include "experiments/cli/table.h"

namespace mla {
namespace {

/// Tokens that quick trials measure on, and predict, about.
constexpr std::int64_t kQuickTokens = 4096, kQuickHeldOut = 2048;
/// Tokens that are held out at most.
constexpr std::int64_t kHeldOutTokens = 8192;
/// Tokens read at a time through a cache of codes in quick trials.
constexpr std::int64_t kQuickStep = 8;
/// A candidate that leads by so many nats in quick trials has no rival left.
constexpr double kClearLead = 0.2;
/// Models that lose so little more than the best one may be better once their layers are fitted, nats.
constexpr double kClose = 0.03;
/// A full conversion's work on a row, in that of a quick one.
constexpr std::int64_t kFullWork = 3;
constexpr std::size_t kFinalists = 2;
/// Models of so few layers may lose by letting them share a budget, and are tried without.
constexpr std::int64_t kFewLayers = 8;

TokenRowList rows_of_tokens(const TokenRowList& rows, std::int64_t tokens) {
  TokenRowList taken;
  for (std::size_t i = 0; i < rows.size() && tokens > 0; ++i) {
    taken.push_back(rows[i]);
    tokens -= std::ssize(rows[i]);
  }
  return taken;
}

/// Tokens of the rows that are predicted.
std::int64_t predicted_tokens(const TokenRowList& rows) {
  std::int64_t tokens = 0;
  for (const auto& row : rows) tokens += std::ssize(row) - 1;
  return tokens;
}

/// The rounds of one search.
class Rounds {
 public:
  Rounds(AutomaticResult& result, const AutomaticOptions& options, const Decoder& source, HeldOutRows rows)
      : result_(result),
        options_(options),
        source_(source),
        rows_(std::move(rows)),
        few_{rows_of_tokens(rows_.measured, kQuickTokens), rows_of_tokens(rows_.held_out, kQuickHeldOut)},
        fits_(plan_layer_fits(source.spec(), std::ssize(rows_.measured.front()), options.fit_steps)),
        bar_("auto", total_work(), "rows") {}

  void run() {
    result_.source_nll = mean_nll(source_, rows_.held_out);
    for (std::size_t i = 0; i < result_.candidates.size(); ++i) {
      if (is_first_of_method(i)) quick("methods", i);
    }
    for (const std::size_t best : leading(kFinalists)) {
      for (std::size_t i = 0; i < result_.candidates.size(); ++i) {
        AutomaticCandidate& other = result_.candidates[i];
        if (other.method == result_.candidates[best].method && other.trials.empty()) quick("bits", i);
      }
    }
    std::vector<std::size_t> finalists = leading(kFinalists);
    if (finalists.empty()) return;
    if (finalists.size() > 1 && nll(finalists[1]) - nll(finalists[0]) > kClearLead) finalists.resize(1);
    for (const std::size_t i : finalists) {
      full("final", i, Effort::kFull);
      if (has_few_layers()) full("final, layers alike", i, Effort::kAlike);
    }
    fit_layers();
    take_best();
    measure_source_codes();
  }

 private:
  /// A model that came out on all rows.
  struct Kept {
    std::size_t index;
    double nll;
    Json passes;
    TriedModel model;
  };

  double nll(std::size_t i) const { return result_.candidates[i].nll(); }

  bool is_first_of_method(std::size_t i) const {
    return i == 0 || result_.candidates[i].method != result_.candidates[i - 1].method;
  }

  bool has_few_layers() const { return source_.spec().layer_count() <= kFewLayers; }

  std::int64_t total_work() const {
    std::int64_t methods = 0;
    for (std::size_t i = 0; i < result_.candidates.size(); ++i) methods += is_first_of_method(i) ? 1 : 0;
    const auto finals = static_cast<std::int64_t>(kFinalists);
    return (methods + finals * (std::ssize(options_.bits) - 1)) * std::ssize(few_.measured) +
           finals * kFullWork * std::ssize(rows_.measured) * (has_few_layers() ? 2 : 1) +
           std::ssize(fits_.rates) * fits_.steps * LayerFits::kBatchRows;
  }

  /// The candidates that were tried with the least losses, best first.
  std::vector<std::size_t> leading(std::size_t count) const {
    std::vector<std::size_t> tried;
    for (std::size_t i = 0; i < result_.candidates.size(); ++i) {
      if (!result_.candidates[i].trials.empty() && result_.candidates[i].failed.empty()) tried.push_back(i);
    }
    std::stable_sort(tried.begin(), tried.end(), [&](std::size_t a, std::size_t b) { return nll(a) < nll(b); });
    tried.resize(std::min(count, tried.size()));
    return tried;
  }

  /// What is tried: passes on what others made of the source already, or on the source.
  struct Attempt {
    std::string round;
    std::size_t index;
    Json passes;
    const Decoder& start;
    bool quick;
    std::int64_t work;  ///< of the progress bar
  };

  std::optional<TriedModel> attempt(const Attempt& what) {
    AutomaticCandidate& candidate = result_.candidates[what.index];
    const HeldOutRows& rows = what.quick ? few_ : rows_;
    const auto start = std::chrono::steady_clock::now();
    std::optional<TriedModel> model;
    std::string failed;
    AutomaticTrial trial{what.round, rows.measured.size(), predicted_tokens(rows.held_out), 0, 0};
    const std::int64_t parts = std::ssize(what.passes) * source_.spec().layer_count();
    std::int64_t part = 0;
    const auto after_layer = [&] {
      bar_.advance(what.work * (part + 1) / parts - what.work * part / parts,
                   [&] { return cat(what.round, ": ", candidate.name()); });
      ++part;
    };
    try {
      model = try_passes(what.passes, what.start,
                         {source_, rows.measured, options_.arithmetic, options_.weights, after_layer});
      trial.nll = nll_through_cache(model->decoder, rows.held_out, candidate.bits, what.quick ? kQuickStep : 1);
    } catch (const ConfigError& error) {
      failed = error.what();
    } catch (const DataError& error) {
      failed = error.what();
    }
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    trial.seconds = passed.count();
    bar_.advance(what.work - what.work * part / parts, candidate.name());
    if (!failed.empty()) {
      const bool came_out = !candidate.trials.empty() && candidate.trials.back().rows == trial.rows;
      if (!came_out) candidate.failed = failed;
      log_warning(cat(candidate.name(), ": ", failed));
      return std::nullopt;
    }
    candidate.failed.clear();
    candidate.trials.push_back(trial);
    log_info(cat(what.round, ": ", candidate.name(), ": ", rounded(trial.nll, 5), " nats on ", trial.held_out_tokens,
                 " held-out tokens, ", rounded(trial.seconds, 3), " s"));
    return model;
  }

  Json passes_of(std::size_t index, Effort effort) const {
    const AutomaticCandidate& candidate = result_.candidates[index];
    return passes_for_bits(*candidate.method, source_.spec(), candidate.size.values, candidate.bits, effort);
  }

  void quick(const std::string& round, std::size_t index) {
    attempt({round, index, passes_of(index, Effort::kQuick), source_, true, std::ssize(few_.measured)});
  }

  /// Passes that were tried already are not tried again.
  void full(const std::string& round, std::size_t index, Effort effort) {
    const Json passes = passes_of(index, effort);
    if (effort != Effort::kFull && passes == passes_of(index, Effort::kFull)) return;
    keep({round, index, passes, source_, false, kFullWork * std::ssize(rows_.measured)}, passes);
  }

  /// Keeps what came out of `what`, and of `passes` in all, of which `reports` tells the first ones. Of models with
  /// many layers the best one alone: memory.
  void keep(const Attempt& what, const Json& passes, std::vector<PassReport> reports = {}) {
    std::optional<TriedModel> model = attempt(what);
    if (!model) return;
    const double nll = result_.candidates[what.index].trials.back().nll;
    if (!has_few_layers() && !kept_.empty()) {
      if (nll >= kept_.front().nll) return;
      kept_.clear();
    }
    std::move(model->reports.begin(), model->reports.end(), std::back_inserter(reports));
    model->reports = std::move(reports);
    kept_.push_back({what.index, nll, passes, std::move(*model)});
  }

  void sort_kept() {
    std::stable_sort(kept_.begin(), kept_.end(), [](const Kept& a, const Kept& b) { return a.nll < b.nll; });
  }

  /// The best model, and those close to it, with their layers fitted to the source's.
  void fit_layers() {
    if (fits_.rates.empty()) {
      result_.skipped.emplace_back("fit_layers", fits_.why);
      return;
    }
    sort_kept();
    std::deque<Kept> found;
    std::swap(found, kept_);
    for (const Kept& start : found) {
      if (start.nll > found.front().nll + kClose) break;
      for (const double rate : fits_.rates) {
        Json passes = start.passes;
        for (const Json& pass : fits_.passes(rate)) passes.push_back(pass);
        keep({cat("fitted, ", fits_.steps, " steps at ", rate), start.index, fits_.passes(rate), start.model.decoder,
              false, fits_.steps * LayerFits::kBatchRows},
             passes, start.model.reports);
      }
    }
    for (Kept& start : found) kept_.push_back(std::move(start));
  }

  void take_best() {
    if (kept_.empty()) return;
    sort_kept();
    Kept& best = kept_.front();
    result_.chosen = best.index;
    result_.nll = best.nll;
    result_.decoder = std::move(best.model.decoder);
    result_.reports = std::move(best.model.reports);
    result_.compress = best.passes;
  }

  void measure_source_codes() {
    for (const std::int64_t bits : options_.bits) {
      if (codes_of(bits).is_plain() || most_cache_bytes(source_.spec(), bits) > options_.bytes) continue;
      const auto start = std::chrono::steady_clock::now();
      const double nll = nll_through_cache(source_, rows_.held_out, bits, 1);
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      result_.source_codes.push_back({cat(bits, " bits"), 0, predicted_tokens(rows_.held_out), nll, passed.count()});
    }
  }

  AutomaticResult& result_;
  const AutomaticOptions& options_;
  const Decoder& source_;
  HeldOutRows rows_, few_;
  LayerFits fits_;
  Progress bar_;
  std::deque<Kept> kept_;
};

}  // namespace

std::string AutomaticCandidate::name() const { return cat(method->name, ", ", bits, " bits"); }

double AutomaticCandidate::nll() const {
  double least = std::numeric_limits<double>::infinity();
  for (const AutomaticTrial& trial : trials) {
    if (failed.empty() && trial.rows == trials.back().rows) least = std::min(least, trial.nll);
  }
  return least;
}

AutomaticResult plan_automatic(const AutomaticOptions& options, const ModelSpec& spec, const std::string& path) {
  AutomaticResult plan;
  plan.skipped = methods_left_out();
  std::optional<std::pair<std::int64_t, std::string>> least;
  std::string refused;
  for (const AutomaticMethod& method : automatic_methods()) {
    try {
      for (const std::int64_t bits : options.bits) {
        const FittingSizes sizes = fitting_sizes(method, spec, bits, options.bytes);
        const std::string name = cat(method.name, ", ", bits, " bits");
        if (!least || sizes.least.bytes < least->first) least = {sizes.least.bytes, name};
        if (sizes.most) {
          plan.candidates.push_back({&method, bits, *sizes.most, {}, {}});
        } else {
          plan.skipped.emplace_back(name, cat("needs at least ", sizes.least.bytes, " bytes per token"));
        }
      }
    } catch (const ConfigError& error) {
      plan.skipped.emplace_back(method.name, error.what());
      if (refused.empty()) refused = error.what();
    }
  }
  if (!least) throw ConfigError(cat(path, ": no method takes this model: ", refused));
  if (plan.candidates.empty())
    throw ConfigError(cat(path, ": ", options.bytes, " bytes per token are less than any method needs; the least is ",
                          least->first, " (", least->second, ")"));
  return plan;
}

AutomaticResult search_automatic(AutomaticResult plan, const AutomaticOptions& options, const Decoder& source,
                                 const TokenRowList& rows, const std::string& path) {
  const at::NoGradGuard off;
  TokenRowList usable;
  for (const auto& row : rows) {
    if (row.size() > 1) usable.push_back(row);
  }
  if (usable.size() < 2)
    throw DataError(cat(path, ": ", usable.size(), " rows of two tokens or more: one is to be measured on and another ",
                        "to be predicted; give more calibration text, or a smaller --calibration-length"));
  HeldOutRows held = hold_out(usable, kHeldOutTokens, path);
  plan.measured_rows = held.measured.size();
  plan.held_out_rows = held.held_out.size();
  Rounds(plan, options, source, std::move(held)).run();
  if (!plan.decoder) throw DataError(cat(path, ": no conversion came out: ", plan.candidates.front().failed));
  return plan;
}

}  // namespace mla
