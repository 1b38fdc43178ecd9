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
  po::options_description options("options");
  options.add_options()("bytes-per-token", po::value<std::string>(), "the cache may hold at most these")(
      "saved", po::value<std::string>(), "percent of the cache that are to be saved")(
      "tolerance", po::value<std::string>(), "loss of quality, or 5% of it")(
      "energy", po::value<std::string>(), "share of the squared norm that each layer keeps, from spectra alone")(
      "task", po::value(&figure.task), "task of the quality")(
      "metric", po::value(&figure.metric), "its metric; by default perplexity, or the mean accuracy")(
      "stage", po::value(&figure.stage), "by default the last of each record")(
      "model", po::value<std::string>(), "the source model, where there are several")(
      "json", "print one JSON object on stdout");
  const ReportArguments parsed = parse_arguments(self, options, arguments, streams);
  if (parsed.help) return ExitCode::kDone;
  PlannerQuestion question;
  if (parsed.has("bytes-per-token"))
    question.bytes_per_token = number_of(parsed.text("bytes-per-token"), "--bytes-per-token");
  if (parsed.has("saved")) question.saved_percent = number_of(parsed.text("saved"), "--saved");
  if (parsed.has("energy")) question.energy = number_of(parsed.text("energy"), "--energy");
  if (parsed.has("tolerance")) {
    std::string text = parsed.text("tolerance");
    question.tolerance_is_relative = text.ends_with("%");
    if (question.tolerance_is_relative) text.pop_back();
    question.tolerance = number_of(text, "--tolerance") / (question.tolerance_is_relative ? 100 : 1);
  }
  RecordSet set = read_records(result_paths(self, parsed.words));
  keep_one_model(set, parsed.text("model"));
  const FigureInput input = figure_input(set, figure);
  const PlannerAnswer answer = plan(input, question);
  if (parsed.has("json")) {
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
