#include "experiments/cell/metrics_file.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mla {
namespace {

/// JSON has no numbers that are not finite.
double number_or_nan(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::string line_text(const StepMetrics& line) {
  return to_json(line).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Json to_json(const StepMetrics& line) {
  Json json = {{"stage", line.stage},
               {"step", line.step},
               {"tokens", line.tokens},
               {"loss", line.loss},
               {"learning_rate", line.learning_rate},
               {"gradient_norm", line.gradient_norm}};
  if (line.tokens_per_second) json["tokens_per_second"] = *line.tokens_per_second;
  if (line.seconds) json["seconds"] = *line.seconds;
  if (!line.time.empty()) json["time"] = line.time;
  if (!line.evaluation.empty()) json["evaluation"] = line.evaluation;
  return json;
}

std::optional<StepMetrics> parse_metrics(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return {};
  try {
    StepMetrics line;
    line.stage = json.at("stage").get<std::string>();
    line.step = json.at("step").get<std::int64_t>();
    line.tokens = json.at("tokens").get<std::int64_t>();
    line.loss = number_or_nan(json.at("loss"));
    line.learning_rate = number_or_nan(json.at("learning_rate"));
    line.gradient_norm = number_or_nan(json.at("gradient_norm"));
    if (json.contains("seconds")) line.seconds = json["seconds"].get<double>();
    if (json.contains("tokens_per_second")) line.tokens_per_second = json["tokens_per_second"].get<double>();
    line.time = json.value("time", "");
    line.evaluation = json.value("evaluation", Json::object());
    return line;
  } catch (const Json::exception&) {
    return {};
  }
}

std::vector<StepMetrics> read_metrics(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return {};
  const std::string text = read_file(file);
  std::vector<StepMetrics> lines;
  for (std::size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    auto line = parse_metrics(text.substr(at, end - at));
    if (!line || line->step != std::ssize(lines)) break;
    lines.push_back(std::move(*line));
  }
  return lines;
}

std::vector<TrainingScores> training_scores(const std::vector<StepMetrics>& lines) {
  std::vector<TrainingScores> all;
  for (const StepMetrics& line : lines) {
    for (const auto& [task, metrics] : line.evaluation.items()) {
      for (const auto& [metric, value] : metrics.items()) {
        auto found = std::find_if(all.begin(), all.end(),
                                  [&](const auto& one) { return one.task == task && one.metric == metric; });
        if (found == all.end()) found = all.insert(all.end(), TrainingScores{task, metric, {}, {}, {}});
        found->step.push_back(line.step);
        found->value.push_back(number_or_nan(value));
      }
    }
  }
  return all;
}

MetricsFile::MetricsFile(std::filesystem::path file, const std::vector<StepMetrics>& lines) : path_(std::move(file)) {
  std::string text;
  for (const StepMetrics& line : lines) text += line_text(line);
  write_file_atomically(path_, text);
  file_.reset(std::fopen(path_.c_str(), "ae"));
  if (!file_) throw DataError(cat(path_.string(), ": cannot be written: ", std::strerror(errno)));
}

void MetricsFile::add(const StepMetrics& line) {
  const std::string text = line_text(line);
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() || std::fflush(file_.get()) != 0)
    throw DataError(cat(path_.string(), ": cannot be written: ", std::strerror(errno)));
}

void MetricsFile::sync() {
  if (::fsync(::fileno(file_.get())) != 0)
    throw DataError(cat(path_.string(), ": cannot be written: ", std::strerror(errno)));
}

}  // namespace mla
