// What KVQuant can be told: scheme, outliers, calibrated parameters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/quantize/min_max.h"

namespace mla {

/// How the dense part is coded.
enum class KvQuantCodes { kNonUniform, kNormalFloat, kUniform };

/// A scheme with or without outliers apart, under the names of the released code's variants.
struct KvQuantVariant {
  std::string name;
  KvQuantCodes codes = KvQuantCodes::kNonUniform;
  bool sparse = false, capped = false, sink = false;
};

struct KvQuantOptions {
  int bits = 4;
  StreamSide tensor = StreamSide::kAuto;
  std::string variant = "nuq1";
  double sparsity_threshold = 0.99;
  std::int64_t first_few_fp16 = -1;
  std::int64_t cap_outliers = -1;
  CodecDtype scales = CodecDtype::kFloat32;
  std::vector<double> codebook, upper, lower;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("bits", self.bits, "of a code, 1 to 8");
    visit("tensor", self.tensor, "K: per channel, calibrated | V: per token | auto: V for values, K for all else");
    visit("variant", self.variant,
          "nuq: codebook of weighted k-means | nf: NormalFloat | int: uniform; with 1 at the end: outliers apart");
    visit("sparsity_threshold", self.sparsity_threshold, "share of the elements that are no outliers");
    visit("first_few_fp16", self.first_few_fp16, "first tokens of a sequence kept as they are; -1: none");
    visit("cap_outliers", self.cap_outliers,
          "outliers of a key token on each side at most; 1: 21 as released; -1: no limit");
    visit("scales", self.scales,
          "of the values' scales and zeros: float32 (as simulated) | float16 (as stored by the kernels)");
    visit("codebook", self.codebook, "the 2^bits values of nuq; empty: from calibration");
    visit("upper", self.upper, "thresholds of the keys' channels; empty: from calibration");
    visit("lower", self.lower, "likewise");
  }

  /// Throws std::logic_error for an unknown variant.
  const KvQuantVariant& scheme() const;

  /// Throws ConfigError for unknown variants, bits, shares outside 0..1, and parameters of the wrong number.
  void validate(const std::string& path) const;
};

/// What `variant` may be.
std::vector<std::string> kvquant_variants();

}  // namespace mla
