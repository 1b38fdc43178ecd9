#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

#include "analysis/figures/kinds.h"
#include "core/base/error.h"

namespace mla {
namespace {

struct Point {
  const RunGroup* group;
  double bytes;
  GroupValue value;
  bool dominated = false;
};

std::vector<Point> collect(const FigureInput& input) {
  std::vector<Point> points;
  for (const RunGroup& group : input.groups) {
    auto bytes = run_number(group.runs.front(), "bytes_per_token");
    if (!bytes) bytes = run_number(group.runs.front(), "cached_elements");
    const auto value = quality_of(group, *input.quality);
    if (bytes && value) points.push_back({&group, *bytes, *value});
  }
  const bool higher = input.quality->higher_is_better;
  for (Point& point : points) {
    point.dominated = std::any_of(points.begin(), points.end(), [&](const Point& other) {
      const bool no_worse = higher ? other.value.mean >= point.value.mean : other.value.mean <= point.value.mean;
      return other.bytes <= point.bytes && no_worse &&
             (other.bytes < point.bytes || other.value.mean != point.value.mean);
    });
  }
  std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.bytes < b.bytes; });
  return points;
}

std::string method_of(const RunGroup& group) {
  const Json method = dimension(group.runs.front(), "method");
  return method.is_string() ? method.get<std::string>() : std::string();
}

/// Whether points are told apart by the names of their methods.
bool compares_methods(const std::vector<Point>& points) {
  std::set<std::string> methods;
  for (const Point& point : points) methods.insert(method_of(*point.group));
  methods.erase("none");
  return methods.size() > 1;
}

}  // namespace

std::optional<Figure> draw_pareto(const FigureInput& input) {
  if (!input.quality) return {};
  const std::vector<Point> points = collect(input);
  if (points.size() < 2) return {};
  Figure figure{"pareto", "Quality against the cache",
                "",       "# bytes per token  quality  standard error\n# the Pareto front\n",
                "",       900,
                480};
  const bool named = compares_methods(points);
  std::string rest = "\n\n# dominated\n", keys, labels;
  std::size_t number = 0, dominated = 0, longest = 0;
  constexpr double kClose = 0.04;  // of the axis
  constexpr int kLevels = 4;
  double labelled = 0;
  int level = 0;
  for (const Point& point : points) {
    const std::string line = data_line({point.bytes, point.value.mean, point.value.error.value_or(0)});
    if (point.dominated) {
      ++dominated;
      rest += cat("# ", point.group->label, "\n", line);
      if (input.options.label_all)
        labels += fmt::format("set label {} at {},{} offset 0.6,-0.5 font ',9' textcolor rgb '#777777' front\n",
                              gnuplot_text(point.group->label), point.bytes, point.value.mean);
      continue;
    }
    figure.data += cat("# ", point.group->label, "\n", line);
    ++number;
    // Numbers of points that stand close together are put one above the other.
    const bool close = number > 1 && point.bytes - labelled < kClose * (points.back().bytes - points.front().bytes);
    level = close ? (level + 1) % kLevels : 0;
    labelled = point.bytes;
    const std::string name = named ? cat(number, " ", method_of(*point.group)) : cat(number);
    labels += fmt::format("set label {} at {},{} offset 0.7,{:.1f} front\n", gnuplot_text(name), point.bytes,
                          point.value.mean, 0.8 + 0.9 * level);
    longest = std::max(longest, point.group->label.size());
    keys += fmt::format("  NaN with points pt 7 ps 0.01 lc rgb '#ffffff' title {}, \\\n",
                        gnuplot_text(fmt::format("{}  {}", number, point.group->label)));
  }
  figure.data += rest;
  constexpr std::size_t kUsual = 28, kMost = 80;  // characters of a label that stand beside the plot
  figure.width += 8 * static_cast<int>(std::clamp(longest, kUsual, kMost) - kUsual);
  constexpr double kWide = 6;  // caches further apart than this stand on a logarithmic axis
  const bool wide = points.front().bytes > 0 && points.back().bytes > kWide * points.front().bytes;
  const auto [least, largest] = std::minmax_element(
      points.begin(), points.end(), [](const Point& a, const Point& b) { return a.value.mean < b.value.mean; });
  const std::string tall = log_axis(least->value.mean, largest->value.mean);
  figure.script =
      labels + (wide ? "set logscale x 2\n" : "") + tall + "set xlabel 'bytes of the cache per token'\nset ylabel " +
      gnuplot_text(input.quality->label) +
      "\nset key outside right top Left reverse samplen 0.5\nset offsets graph 0.05, graph 0.08, graph 0.08, graph "
      "0.05\nset xtics rotate by -30\n" +
      "plot 'pareto.dat' index 0 using 1:2 with steps lt 1 dt 2 lw 1 title 'Pareto front', \\\n" +
      (dominated > 0 ? "  'pareto.dat' index 1 using 1:2:3 with yerrorbars lc rgb '#888888' dt 1 pt 6 ps 0.7 title "
                       "'dominated', \\\n"
                     : "") +
      "  'pareto.dat' index 0 using 1:2:3 with yerrorbars lt 1 dt 1 pt 7 ps 0.8 title 'on the front', \\\n" + keys +
      "  NaN notitle\n";
  figure.caption = fmt::format(
      "{} against the bytes that the cache holds per token: {} configs, {} of them on the Pareto front (filled, "
      "numbered), the others dominated (open). "
      "Bars: standard error, where it is known.{}",
      input.quality->label, points.size(), number, tall.empty() ? "" : " The axis of the score is logarithmic.");
  if (points.size() < input.groups.size()) {
    figure.caption += fmt::format(" {} configs without this score or without a cache are left out.",
                                  input.groups.size() - points.size());
  }
  return figure;
}

}  // namespace mla
