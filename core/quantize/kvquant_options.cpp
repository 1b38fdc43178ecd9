#include "core/quantize/kvquant_options.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr double kLargestHalf = 65504;

const std::array<KvQuantVariant, 8> kVariants = {{{"nuq1", KvQuantCodes::kNonUniform, true, false, false},
                                                  {"nuq", KvQuantCodes::kNonUniform, false, false, false},
                                                  {"nf1", KvQuantCodes::kNormalFloat, true, false, false},
                                                  {"nf", KvQuantCodes::kNormalFloat, false, false, false},
                                                  {"int1", KvQuantCodes::kUniform, true, false, false},
                                                  {"int", KvQuantCodes::kUniform, false, false, false},
                                                  {"nuq1cap", KvQuantCodes::kNonUniform, true, true, false},
                                                  {"nuq1sink", KvQuantCodes::kNonUniform, true, false, true}}};

}  // namespace

const KvQuantVariant& KvQuantOptions::scheme() const {
  const auto found =
      std::find_if(kVariants.begin(), kVariants.end(), [&](const KvQuantVariant& v) { return v.name == variant; });
  expects(found != kVariants.end(), "an unknown variant");
  return *found;
}

std::vector<std::string> kvquant_variants() {
  std::vector<std::string> names;
  for (const KvQuantVariant& v : kVariants) names.push_back(v.name);
  return names;
}

void KvQuantOptions::validate(const std::string& path) const {
  check_bits(bits, path);
  const std::vector<std::string> known = kvquant_variants();
  if (std::find(known.begin(), known.end(), variant) == known.end()) {
    throw ConfigError(cat(path, ".variant: ", unknown_name(variant, known)));
  }
  if (!(sparsity_threshold >= 0 && sparsity_threshold <= 1)) {
    throw ConfigError(cat(path, ".sparsity_threshold = ", sparsity_threshold, ": is outside 0..1"));
  }
  if (!codebook.empty() && codebook.size() != std::size_t{1} << bits) {
    throw ConfigError(cat(path, ".codebook: ", codebook.size(), " values; ", bits, " bits need ", 1 << bits));
  }
  for (std::size_t i = 0; i < std::min(upper.size(), lower.size()); ++i) {
    if (upper[i] >= lower[i] && std::abs(upper[i]) <= kLargestHalf && std::abs(lower[i]) <= kLargestHalf) continue;
    throw ConfigError(cat(path, ".lower[", i, "] = ", lower[i], ", upper[", i, "] = ", upper[i],
                          ": expected lower <= upper, both within float16's ", kLargestHalf));
  }
  for (std::size_t i = 0; i < codebook.size(); ++i) {
    if (std::abs(codebook[i]) <= kLargestHalf) continue;
    throw ConfigError(cat(path, ".codebook[", i, "] = ", codebook[i], ": is beyond float16's ", kLargestHalf));
  }
  if (upper.size() != lower.size()) {
    throw ConfigError(cat(path, ".lower: ", lower.size(), " thresholds, but upper has ", upper.size()));
  }
}

}  // namespace mla
