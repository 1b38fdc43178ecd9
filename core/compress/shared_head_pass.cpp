#include "core/compress/shared_head_pass.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"

namespace mla {

Requirements shared_head_requirements(SharedHeadMetric metric) {
  return metric == SharedHeadMetric::kOutputs ? Requirements{kInputMoment, kInputMean} : Requirements{};
}

at::Tensor shared_head_moment(SharedHeadMetric metric, const ModelSpec& spec, std::int64_t layer,
                              const PassInputs& inputs) {
  if (metric == SharedHeadMetric::kWeights) return equal_moment(spec.hidden);
  return biased_moment(inputs.statistics->at(kInputMoment, layer), inputs.statistics->at(kInputMean, layer));
}

std::vector<std::int64_t> some_pairs(std::int64_t count, const HeadFields& heads) {
  std::vector<std::int64_t> pairs;
  for (std::int64_t i = 0; i < count; ++i) pairs.push_back(i % (heads.head_dim / 2));
  return pairs;
}

void check_even_width(std::int64_t width, std::int64_t most, const std::string& described, const std::string& most_is) {
  if (width < 2 || width % 2 != 0 || width > most)
    throw ConfigError(cat(described, ": must be even, from 2 to ", most, " (", most_is, "); 0: its default"));
}

void check_query_rank(std::int64_t rank, std::int64_t query_width, const ModelSpec& spec, const std::string& path) {
  const std::int64_t most = std::min(query_width, spec.hidden);
  if (rank < 0 || rank > most) {
    throw ConfigError(cat(path, ".query_rank = ", rank, ": queries of ", query_width, " elements made of ", spec.hidden,
                          " have a rank of at most ", most, "; 0: one matrix, exact"));
  }
}

std::pair<at::Tensor, at::Tensor> split_bias(const at::Tensor& biased, bool bias) {
  const std::int64_t inputs = biased.size(1) - 1;
  return {biased.narrow(1, 0, inputs), bias ? biased.select(1, inputs) : at::Tensor()};
}

void add_queries(ChangedMaps& maps, const at::Tensor& query, const at::Tensor& pair_energy, const at::Tensor& moment,
                 std::int64_t rank, bool bias) {
  const auto [weight, offset] = split_bias(query, bias);
  if (rank == 0) {
    maps["q_proj"] = {weight, offset};
    return;
  }
  const FactoredQueries factors = factored_queries(weight, pair_energy, moment, rank);
  maps["q_down_proj"] = {factors.down, {}};
  maps["q_up_proj"] = {factors.up, offset};
}

}  // namespace mla
