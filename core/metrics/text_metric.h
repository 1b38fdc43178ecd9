// How well a predicted text answers a reference text.
#pragma once

#include <string>
#include <vector>

namespace mla {

/// One metric between two texts. Each is the one that LongBench (arXiv 2308.14508) names for its tasks, number for
/// number: quirks of the reference implementation are part of what published scores mean.
class TextMetric {
 public:
  static constexpr const char* kKind = "text_metric";
  virtual ~TextMetric() = default;

  /// Between 0 and 1. `classes` are all labels of a classification task, empty for the others. All texts are valid
  /// UTF-8. Throws DataError for a reference that the metric cannot use.
  virtual double score(const std::string& prediction, const std::string& reference,
                       const std::vector<std::string>& classes) const = 0;
};

}  // namespace mla
