#include "core/metrics/prediction_scores.h"

#include <algorithm>

#include "core/base/registry.h"
#include "core/metrics/text_metric.h"
#include "core/text/json_lines.h"

namespace mla {
namespace {

std::vector<std::string> texts_of(const Json& json, const std::string& where) {
  if (json.is_string()) return {json.get<std::string>()};
  if (!json.is_array()) throw DataError(cat(where, ": expected a list of texts, found ", kind_of(json)));
  std::vector<std::string> texts;
  for (const Json& text : json) {
    if (!text.is_string()) throw DataError(cat(where, ": expected texts, found ", kind_of(text), " ", brief(text)));
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

std::string text_field(const Json& json, const char* field, const std::string& where) {
  const auto found = json.find(field);
  if (found == json.end() || found->is_null()) return "";
  if (!found->is_string()) throw DataError(cat(where, ": ", field, ": expected a string, found ", kind_of(*found)));
  return found->get<std::string>();
}

std::string first_line(const std::string& text) {
  const std::size_t begin = std::min(text.find_first_not_of('\n'), text.size());
  return text.substr(begin, text.find('\n', begin) - begin);
}

}  // namespace

Prediction parse_prediction(const Json& json, const std::string& where) {
  if (!json.contains("answers")) throw DataError(cat(where, ": field answers is missing"));
  Prediction prediction;
  prediction.id =
      json.contains("_id") && !json["_id"].is_string() ? json["_id"].dump() : text_field(json, "_id", where);
  prediction.dataset = text_field(json, "dataset", where);
  prediction.answers = texts_of(json["answers"], where + ": answers");
  if (const auto classes = json.find("all_classes"); classes != json.end() && !classes->is_null()) {
    prediction.classes = texts_of(*classes, where + ": all_classes");
  }
  return prediction;
}

std::vector<Prediction> read_predictions(const std::filesystem::path& file) {
  std::vector<Prediction> predictions;
  read_json_lines(file, [&](const Json& json, const std::string& where) {
    if (!json.contains("pred")) throw DataError(cat(where, ": field pred is missing"));
    predictions.push_back(parse_prediction(json, where));
    predictions.back().text = text_field(json, "pred", where);
    return true;
  });
  if (predictions.empty()) throw DataError(cat(file.string(), ": holds no prediction"));
  return predictions;
}

double score_prediction(const LongBenchTask& task, const Prediction& prediction) {
  const auto metric = Registry<TextMetric>::instance().make(task.metric, task.name);
  const std::string text = task.first_line ? first_line(prediction.text) : prediction.text;
  double best = 0;
  for (const std::string& answer : prediction.answers) {
    best = std::max(best, metric->score(text, answer, prediction.classes));
  }
  return best;
}

}  // namespace mla
