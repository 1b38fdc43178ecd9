// Scoring predictions that some model has made before.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/metrics/longbench.h"

namespace mla {

/// One line of a file of predictions, in the form in which LongBench's own evaluation writes and reads them.
struct Prediction {
  std::string id;
  std::string dataset;               ///< the task it belongs to; may be empty
  std::string text;                  ///< what the model said
  std::vector<std::string> answers;  ///< references
  std::vector<std::string> classes;  ///< all labels, for classification
};

/// All of a line but what the model said.
Prediction parse_prediction(const Json& json, const std::string& where);

/// Reads {"pred": "…", "answers": ["…"], "all_classes": […] | null, "dataset": "…", "_id": "…"} lines, of which the
/// first two must be there; other keys are passed over. A file ending in .gz is unpacked. Throws DataError naming file
/// and line.
std::vector<Prediction> read_predictions(const std::filesystem::path& file);

/// The best of a prediction's scores over its answers, between 0 and 1; 0 without answers. Throws DataError where the
/// task's metric cannot use an answer or lacks the classes.
double score_prediction(const LongBenchTask& task, const Prediction& prediction);

}  // namespace mla
