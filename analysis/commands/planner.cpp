#include "analysis/planner/planner.h"

#include <algorithm>

#include "analysis/commands/commands.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kUsage =
    "usage: mlaforge-report planner RESULTS… (--bytes-per-token N | --saved PERCENT | --tolerance LOSS | --energy "
    "SHARE) [options]\n\n"
    "Given a budget: the config that lost least, of those that fit. Given a tolerated loss against the model that is "
    "not\n"
    "compressed (in the metric's unit, or as 5%): the smallest cache. Ranks by layer from spectra alone are given "
    "beside,\n"
    "for records of a joint SVD; they need no training. Where cells' caches have codecs, quality is the perplexity of\n"
    "text decoded through them, and bits are weighed against pairs and ranks by the bytes that were counted.\n\n"
    "Examples:\n  mlaforge-report planner results --saved 80\n  mlaforge-report planner results --tolerance 5% "
    "--metric perplexity\n"
    "  mlaforge-report planner results --energy 0.9\n";

double number_of(const std::string& text, const char* option) {
  std::size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used != text.size() || text.empty() || !(value >= 0))
    throw ConfigError(cat(option, " ", text, ": expected a number that is not negative"));
  return value;
}

/// What is asked, as it was written.
struct PlannerLimits {
  std::optional<std::string> bytes_per_token, saved, tolerance, energy;

  void declare(OptionList& options) {
    options.add("bytes-per-token", bytes_per_token, "N", "the cache may hold at most these");
    options.add("saved", saved, "PERCENT", "percent of the cache that are to be saved");
    options.add("tolerance", tolerance, "LOSS", "loss of quality, or 5% of it");
    options.add("energy", energy, "SHARE", "share of the squared norm that each layer keeps, from spectra alone");
  }

  PlannerQuestion question() const {
    PlannerQuestion asked;
    if (bytes_per_token) asked.bytes_per_token = number_of(*bytes_per_token, "--bytes-per-token");
    if (saved) asked.saved_percent = number_of(*saved, "--saved");
    if (energy) asked.energy = number_of(*energy, "--energy");
    if (!tolerance) return asked;
    std::string text = *tolerance;
    asked.tolerance_is_relative = text.ends_with("%");
    if (asked.tolerance_is_relative) text.pop_back();
    asked.tolerance = number_of(text, "--tolerance") / (asked.tolerance_is_relative ? 100 : 1);
    return asked;
  }
};

/// Losses of one model say nothing of another's.
void keep_one_model(RecordSet& set, const std::string& wanted) {
  std::vector<std::string> models;
  const auto model_of = [](const LoadedRecord& record) {
    return plain_text(dimension({&record, "source", true}, "model"));
  };
  for (const LoadedRecord& record : set.records) {
    const std::string model = model_of(record);
    if (std::find(models.begin(), models.end(), model) == models.end()) models.push_back(model);
  }
  if (wanted.empty() && models.size() > 1)
    throw ConfigError(cat("planner: the records are of several models; --model names one of: ", join(models)));
  if (wanted.empty()) return;
  if (std::find(models.begin(), models.end(), wanted) == models.end())
    throw ConfigError(cat("--model: ", unknown_name(wanted, models)));
  std::erase_if(set.records, [&](const LoadedRecord& record) { return model_of(record) != wanted; });
}

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  FigureOptions figure;
  PlannerLimits limits;
  std::vector<std::string> words;
  std::string model;
  bool json = false;
  OptionList options;
  options.words(words);
  limits.declare(options);
  options.add("task", figure.task, "TASK", "task of the quality");
  options.add("metric", figure.metric, "METRIC", "its metric; by default perplexity, or the mean accuracy");
  options.add("stage", figure.stage, "STAGE", "by default the last of each record");
  options.add("model", model, "MODEL", "the source model, where there are several");
  options.flag("json", json, "print one JSON object on stdout");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  const PlannerQuestion question = limits.question();
  RecordSet set = read_records(result_paths(self, words));
  keep_one_model(set, model);
  const FigureInput input = figure_input(set, figure);
  const PlannerAnswer answer = plan(input, question);
  if (json) {
    streams.out << plan_json(input, answer).dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  } else {
    print_plan(input, answer, streams.out);
  }
  for (const std::string& note : input.left_out) streams.err << "skipped: " << note << "\n";
  return ExitCode::kDone;
}

}  // namespace

ReportCommand planner_command() {
  return {"planner", "which config the records recommend for a budget or a tolerated loss", kUsage, run};
}

}  // namespace mla
