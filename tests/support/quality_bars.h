// What public code reached on two small real models, with the rows and the source models of those measurements.
#pragma once

#include <string>

#include "core/base/json.h"
#include "core/compress/calibration/rows.h"
#include "core/model/checkpoint.h"

namespace mla::test {

inline constexpr const char* kQualityFolder = "data/conformance/quality";

/// One of the models, "tinystories-656k" or "stories260K".
struct QualityBars {
  explicit QualityBars(const std::string& model);

  /// Perplexity on the evaluation rows, over windows of 256 tokens.
  double perplexity(const Decoder& decoder) const;
  /// The first `count` calibration rows.
  TokenRowList calibration(std::size_t count) const;

  std::string model;
  Checkpoint source;
  TokenRowList evaluation, all_calibration;
  Json results;  ///< those of this model that nothing was trained for
};

}  // namespace mla::test
