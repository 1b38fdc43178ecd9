// What the conversions to one shared key/value head (passes mfa and mfa_kr) have in common.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/compress/pass.h"
#include "core/compress/shared_head.h"

namespace mla {

/// What is to be close where layers do not become one shared head exactly.
enum class SharedHeadMetric { kOutputs, kWeights };
inline std::vector<std::pair<std::string, SharedHeadMetric>> enum_names(SharedHeadMetric) {
  return {{"outputs", SharedHeadMetric::kOutputs}, {"weights", SharedHeadMetric::kWeights}};
}
inline constexpr const char* kSharedHeadMetricHelp =
    "what is close: outputs (logits, and what is added to the stream, on calibration data) | weights (no data)";

/// The statistics of which the moment of a layer's inputs is made, and that moment.
Requirements shared_head_requirements(SharedHeadMetric metric);
at::Tensor shared_head_moment(SharedHeadMetric metric, const ModelSpec& spec, std::int64_t layer,
                              const PassInputs& inputs);

/// As many pairs as a key has: which frequencies they have follows from data.
std::vector<std::int64_t> some_pairs(std::int64_t count, const HeadFields& heads);

/// Throws ConfigError, "DESCRIBED: …", for a width that is not even, or not from 2 to `most`, which `most_is` explains.
void check_even_width(std::int64_t width, std::int64_t most, const std::string& described, const std::string& most_is);
/// Likewise for a rank of the queries' matrix, 0 or one that it can have.
void check_query_rank(std::int64_t rank, std::int64_t query_width, const ModelSpec& spec, const std::string& path);

using ChangedMaps = std::map<std::string, std::pair<at::Tensor, at::Tensor>>;
/// Weight and, where it has one, bias of a map given with its bias as a last column.
std::pair<at::Tensor, at::Tensor> split_bias(const at::Tensor& biased, bool bias);
/// The maps of the queries: one, or two where there is a rank.
void add_queries(ChangedMaps& maps, const at::Tensor& query, const at::Tensor& pair_energy, const at::Tensor& moment,
                 std::int64_t rank, bool bias);

}  // namespace mla
