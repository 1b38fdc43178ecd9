#include "core/quantize/one_bit_search.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mla {
namespace {

constexpr std::int64_t kBreakPoints = 81;
constexpr float kFirstBreak = 0.1F, kLastBreak = 0.9F;

/// Squares lost by numbers that are binarised, and their rest once more. `rest` has room for them.
double error_of_two(const double* x, std::int64_t count, bool centred, double* rest) {
  const Binarised first = binarise(x, count, centred);
  for (std::int64_t i = 0; i < count; ++i) rest[i] = x[i] - first.value(x[i]);
  return binarise(rest, count, centred).error;
}

/// Squares lost by numbers of which the small and the large ones are binarised apart.
double error_of_split(const double* x, std::int64_t count, double break_point, bool centred) {
  double sums[2] = {0, 0}, deviations[2] = {0, 0}, squares = 0;
  std::int64_t large = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const bool is_large = std::abs(x[i]) >= break_point;
    sums[0] += is_large ? 0 : x[i];
    sums[1] += is_large ? x[i] : 0;
    large += is_large;
  }
  const double counts[2] = {static_cast<double>(count - large), static_cast<double>(large)};
  const auto mean = [&](int group) { return centred && counts[group] > 0 ? sums[group] / counts[group] : 0; };
  const double means[2] = {mean(0), mean(1)};
  for (std::int64_t i = 0; i < count; ++i) {
    const bool is_large = std::abs(x[i]) >= break_point;
    const double deviation = std::abs(x[i] - (is_large ? means[1] : means[0]));
    deviations[0] += is_large ? 0 : deviation;
    deviations[1] += is_large ? deviation : 0;
    squares += deviation * deviation;
  }
  for (int group = 0; group < 2; ++group) {
    if (counts[group] > 0) squares -= deviations[group] * deviations[group] / counts[group];
  }
  return squares;
}

/// Index of the candidate with the smallest error over all rows, the first of equals. `errors(row, to)` writes those
/// of one row; they are added up in the order of rows, whatever the threads.
template <class Errors>
std::size_t best_candidate(std::int64_t rows, std::size_t candidates, const Errors& errors) {
  std::vector<double> all(static_cast<std::size_t>(rows) * candidates);
  at::parallel_for(0, rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      errors(row, all.data() + static_cast<std::size_t>(row) * candidates);
  });
  std::vector<double> sums(candidates);
  for (std::size_t i = 0; i < all.size(); ++i) sums[i % candidates] += all[i];
  return static_cast<std::size_t>(std::min_element(sums.begin(), sums.end()) - sums.begin());
}

/// Columns, the one with the largest sum of saliency first.
std::vector<std::int64_t> by_saliency(const BlockView& saliency) {
  std::vector<double> sums(static_cast<std::size_t>(saliency.columns));
  for (std::int64_t i = 0; i < saliency.rows * saliency.columns; ++i)
    sums[static_cast<std::size_t>(i % saliency.columns)] += std::abs(saliency.elements[i]);
  std::vector<std::int64_t> order(sums.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return sums[static_cast<std::size_t>(a)] > sums[static_cast<std::size_t>(b)];
  });
  return order;
}

/// `view` with its columns in that order.
std::vector<double> in_order(const BlockView& view, const std::vector<std::int64_t>& order) {
  std::vector<double> arranged;
  arranged.reserve(static_cast<std::size_t>(view.rows * view.columns));
  for (std::int64_t row = 0; row < view.rows; ++row) {
    for (const std::int64_t column : order) arranged.push_back(view.elements[row * view.columns + column]);
  }
  return arranged;
}

/// How many of the leading columns are best taken apart from the others.
std::int64_t count_salient(const BlockView& arranged, const OneBitOptions& options) {
  const std::int64_t columns = arranged.columns, most = std::min(options.most_salient, columns - 1);
  if (most < 1) return 0;
  const bool twice = options.search == SearchedMatrix::kSaliency;
  const std::size_t best =
      best_candidate(arranged.rows, static_cast<std::size_t>(most), [&](std::int64_t row, double* to) {
        const double* x = arranged.elements + row * columns;
        std::vector<double> rest(static_cast<std::size_t>(columns));
        const auto error = [&](const double* from, std::int64_t count) {
          return twice ? error_of_two(from, count, options.centred, rest.data())
                       : binarise(from, count, options.centred).error;
        };
        for (std::int64_t count = 1; count <= most; ++count)
          to[count - 1] = error(x, count) + error(x + count, columns - count);
      });
  return static_cast<std::int64_t>(best) + 1;
}

/// Evenly spaced from the first to the last in float32, as torch.linspace counts them: from both ends.
std::vector<float> break_shares() {
  const float step = (kLastBreak - kFirstBreak) / static_cast<float>(kBreakPoints - 1);
  std::vector<float> shares;
  for (std::int64_t i = 0; i < kBreakPoints; ++i) {
    shares.push_back(i < kBreakPoints / 2 ? kFirstBreak + step * static_cast<float>(i)
                                          : kLastBreak - step * static_cast<float>(kBreakPoints - 1 - i));
  }
  return shares;
}

/// Between two of the sorted numbers. Places are float32, as numpy has them where the shares are: one that is whole but
/// for rounding is whole.
double percentile(const std::vector<double>& sorted, float share) {
  const float place = static_cast<float>(sorted.size() - 1) * share, below = std::floor(place), part = place - below;
  const double low = sorted[static_cast<std::size_t>(below)],
               high = sorted[std::min(static_cast<std::size_t>(below) + 1, sorted.size() - 1)];
  const double part_of = static_cast<double>(part);
  return part_of < 0.5 ? low + (high - low) * part_of : high - (high - low) * (1 - part_of);
}

/// Candidates for the break: of all elements, salient ones counted as 0.
std::vector<double> break_candidates(const BlockView& arranged, std::int64_t salient, BreakPoints kind) {
  std::vector<double> sizes;
  for (std::int64_t i = 0; i < arranged.rows * arranged.columns; ++i)
    sizes.push_back(i % arranged.columns < salient ? 0 : std::abs(arranged.elements[i]));
  if (kind == BreakPoints::kPercentiles) {
    std::sort(sizes.begin(), sizes.end());
  } else {
    sizes = {*std::max_element(sizes.begin(), sizes.end())};
  }
  std::vector<double> breaks;
  for (const float share : break_shares())
    breaks.push_back(kind == BreakPoints::kPercentiles ? percentile(sizes, share)
                                                       : sizes.front() * static_cast<double>(share));
  return breaks;
}

double find_break(const BlockView& arranged, std::int64_t salient, const OneBitOptions& options) {
  const std::vector<double> breaks = break_candidates(arranged, salient, options.break_points);
  return breaks[best_candidate(arranged.rows, breaks.size(), [&](std::int64_t row, double* to) {
    const double* x = arranged.elements + row * arranged.columns + salient;
    for (std::size_t i = 0; i < breaks.size(); ++i)
      to[i] = error_of_split(x, arranged.columns - salient, breaks[i], options.centred);
  })];
}

}  // namespace

Binarised binarise(const double* x, std::int64_t count, bool centred) {
  if (count == 0) return {};
  const auto all = static_cast<double>(count);
  double sum = 0, deviations = 0, squares = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += x[i];
  const double mean = centred ? sum / all : 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double deviation = std::abs(x[i] - mean);
    deviations += deviation;
    squares += deviation * deviation;
  }
  return {mean, deviations / all, squares - deviations * deviations / all};
}

BlockPartition divide_block(const BlockView& weights, const BlockView& saliency, const OneBitOptions& options) {
  const BlockView& searched = options.search == SearchedMatrix::kSaliency ? saliency : weights;
  const std::vector<std::int64_t> order = by_saliency(saliency);
  const std::vector<double> elements = in_order(searched, order);
  const BlockView arranged{elements.data(), searched.rows, searched.columns};
  const std::int64_t salient = count_salient(arranged, options);
  BlockPartition partition;
  partition.break_point = find_break(arranged, salient, options);
  partition.salient.resize(order.size());
  for (std::int64_t i = 0; i < salient; ++i)
    partition.salient[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = 1;
  for (std::int64_t i = 0; i < searched.rows * searched.columns; ++i) {
    const bool apart = partition.salient[static_cast<std::size_t>(i % searched.columns)] == 1;
    partition.large.push_back(!apart && std::abs(searched.elements[i]) >= partition.break_point);
  }
  return partition;
}

}  // namespace mla
