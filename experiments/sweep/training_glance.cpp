#include "experiments/sweep/training_glance.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>

namespace mla {
namespace {

/// Longer than any line; most have 250 bytes.
constexpr std::size_t kPiece = 16384;

/// The whole lines in the bytes at `begin`; a line that begins before is left out.
std::vector<std::string> lines_at(std::ifstream& file, std::size_t begin) {
  // One byte more tells whether a line begins here.
  const std::size_t from = begin == 0 ? 0 : begin - 1;
  std::string text(kPiece + 1, '\0');
  file.clear();
  file.seekg(static_cast<std::streamoff>(from));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, file.gcount())));
  std::size_t at = 0;
  if (begin > 0) {
    at = text.find('\n');
    if (at == std::string::npos) return {};
    ++at;
  }
  std::vector<std::string> lines;
  for (std::size_t end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    lines.push_back(text.substr(at, end - at));
  return lines;
}

}  // namespace

std::optional<TrainingGlance> glance_at(const std::filesystem::path& metrics, std::size_t points) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(metrics, error);
  std::ifstream file(metrics, std::ios::binary);
  if (error || bytes == 0 || !file) return {};
  const auto ending = lines_at(file, bytes > kPiece ? bytes - kPiece : 0);
  std::optional<StepMetrics> last;
  for (auto line = ending.rbegin(); line != ending.rend() && !last; ++line) last = parse_metrics(*line);
  if (!last) return {};
  TrainingGlance glance{*last, {}};
  std::int64_t before = -1;
  for (std::size_t i = 0; i + 1 < points; ++i) {
    const auto lines = lines_at(file, bytes * i / points);
    const auto line = lines.empty() ? std::nullopt : parse_metrics(lines.front());
    if (!line || line->step <= before || line->step >= last->step) continue;
    before = line->step;
    glance.losses.push_back(line->loss);
  }
  glance.losses.push_back(last->loss);
  return glance;
}

std::string sparkline(const std::vector<double>& values) {
  constexpr std::array kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  double low = INFINITY, high = -INFINITY;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  std::string line;
  for (const double value : values) {
    if (!std::isfinite(value)) {
      line += "×";
      continue;
    }
    const double share = high > low ? (value - low) / (high - low) : 0;
    line += kBars[static_cast<std::size_t>(std::lround(share * static_cast<double>(kBars.size() - 1)))];
  }
  return line;
}

}  // namespace mla
