// Items that two records have in common.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/records/score_samples.h"

namespace mla {

/// What is drawn with replacement: samples, or groups of samples that depend on each other, with their sizes as
/// weights.
struct Units {
  std::vector<double> means, weights;
};

/// Sizes of the groups that samples are taken in: as the record states them (group_sizes); very many samples without
/// groups are taken in blocks of neighbours, since those of a text depend on each other. Empty: each by itself.
std::vector<std::int64_t> groups_of(std::size_t samples, const std::vector<std::int64_t>& group_sizes);
Units units_of(const std::vector<double>& samples, const std::vector<std::int64_t>& group_sizes);

/// Why items of the two cannot be paired; "" where they can.
std::string unpaired_because(const std::vector<SamplePart>& before, const RecordSamples& record_before,
                             const std::vector<SamplePart>& after, const RecordSamples& record_after);

}  // namespace mla
