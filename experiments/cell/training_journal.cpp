#include "experiments/cell/training_journal.h"

#include <cmath>
#include <ctime>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/provenance.h"
#include "experiments/cell/training.h"

namespace mla {
namespace {

/// The same step of the same run: a training that began anew, on another machine perhaps, may give other losses.
bool agrees(const StepMetrics& kept, const StepMetrics& made) {
  const bool same_loss = kept.loss == made.loss || (std::isnan(kept.loss) && !std::isfinite(made.loss));
  return kept.step == made.step && kept.tokens == made.tokens && same_loss;
}

/// Seconds since 1970; 0 for an empty time.
double wall_time(const std::string& iso) {
  std::tm parts{};
  if (::strptime(iso.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts) == nullptr) return 0;
  return static_cast<double>(::timegm(&parts));
}

/// What `best` goes by.
std::optional<double> first_score(const Json& evaluation) {
  if (evaluation.empty() || evaluation.front().empty() || !evaluation.front().front().is_number()) return {};
  return evaluation.front().front().get<double>();
}

}  // namespace

std::vector<StepMetrics> TrainingJournal::lines_made(const TrainingReport& report) const {
  TrainingSeries series = plan_.before;
  const std::size_t before = series.step.size();
  append_series(report, series);
  std::vector<StepMetrics> lines(series.step.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    StepMetrics& line = lines[i];
    if (i >= before) line.stage = plan_.stage;
    line.step = series.step[i];
    line.tokens = series.tokens[i];
    line.loss = series.loss[i];
    line.learning_rate = series.learning_rate[i];
    line.gradient_norm = series.gradient_norm[i];
  }
  return lines;
}

void TrainingJournal::begin(const TrainingReport& earlier, std::int64_t steps) {
  std::vector<StepMetrics> kept = read_metrics(plan_.metrics), made = lines_made(earlier);
  std::size_t same = 0;
  while (same < std::min(kept.size(), made.size()) && agrees(kept[same], made[same])) ++same;
  const bool ended = std::ssize(earlier.step) >= steps;
  // Nothing of this stage is left to do: what follows are lines of later ones, which look after them.
  if (!ended || same < made.size()) {
    kept.resize(same);
    kept.insert(kept.end(), made.begin() + static_cast<std::ptrdiff_t>(same), made.end());
  }
  file_.emplace(plan_.metrics, kept);
  if (!plan_.events.empty()) events_.emplace(plan_.events);
  for (const StepMetrics& line : kept) {
    show(line);
    remember_best(line);
  }
  written_ = std::ssize(made);
  seconds_ = earlier.seconds;
}

void TrainingJournal::remember_best(const StepMetrics& line) {
  const std::optional<double> score = first_score(line.evaluation);
  if (line.stage == plan_.stage && score && (!best_ || *score < *best_)) best_ = score;
}

void TrainingJournal::show(const StepMetrics& line) {
  if (!events_) return;
  std::vector<std::pair<std::string, double>> scalars = {{"train/loss", line.loss},
                                                         {"train/learning_rate", line.learning_rate},
                                                         {"train/gradient_norm", line.gradient_norm}};
  if (line.tokens_per_second) scalars.emplace_back("train/tokens_per_second", *line.tokens_per_second);
  for (const auto& [task, metrics] : line.evaluation.items()) {
    for (const auto& [metric, value] : metrics.items()) {
      if (value.is_number()) scalars.emplace_back(cat("evaluate/", task, "/", metric), value.get<double>());
    }
  }
  events_->add(wall_time(line.time), line.step, scalars);
}

void TrainingJournal::write(const StepMetrics& line) {
  file_->add(line);
  show(line);
  ++written_;
}

bool TrainingJournal::add(const TrainingStep& step, const TrainingReport& report) {
  const std::int64_t tokens_before = plan_.before.tokens.empty() ? 0 : plan_.before.tokens.back();
  const std::size_t count = report.tokens.size();
  const std::int64_t own_tokens = step.tokens - (count > 1 ? report.tokens[count - 2] : 0);
  StepMetrics line{plan_.stage,
                   std::ssize(plan_.before.step) + step.step,
                   tokens_before + step.tokens,
                   step.loss,
                   step.learning_rate,
                   step.gradient_norm};
  line.seconds = report.seconds - seconds_;
  if (*line.seconds > 0) line.tokens_per_second = static_cast<double>(own_tokens) / *line.seconds;
  seconds_ = report.seconds;
  const std::int64_t made = step.step + 1;
  if (plan_.evaluate_every > 0 && made % plan_.evaluate_every == 0) {
    try {
      line.evaluation = plan_.evaluate();
    } catch (const Interrupted&) {
      return false;
    }
    log_info(cat(plan_.title, ": step ", line.step, ": ", line.evaluation.dump()));
  }
  line.time = utc_now();
  write(line);
  keep_checkpoints(line, made);
  return true;
}

void TrainingJournal::keep_checkpoints(const StepMetrics& line, std::int64_t made) {
  if (!plan_.keep) return;
  const Json about = {{"stage", line.stage},
                      {"step", line.step},
                      {"tokens", line.tokens},
                      {"loss", line.loss},
                      {"evaluation", line.evaluation}};
  const std::optional<double> score = first_score(line.evaluation);
  if (plan_.checkpoints.best && score && (!best_ || *score < *best_)) plan_.keep("best", about);
  remember_best(line);
  if (plan_.checkpoints.every > 0 && made % plan_.checkpoints.every == 0)
    plan_.keep(cat("step_", std::ssize(plan_.before.step) + made), about);
}

void TrainingJournal::sync() { file_->sync(); }

void TrainingJournal::finish(const TrainingReport& report) {
  const std::vector<StepMetrics> made = lines_made(report);
  for (std::size_t i = static_cast<std::size_t>(written_); i < made.size(); ++i) {
    StepMetrics line = made[i];
    line.time = utc_now();
    write(line);
  }
  sync();
}

}  // namespace mla
