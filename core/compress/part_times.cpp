#include "core/compress/part_times.h"

#include <algorithm>
#include <cstdio>

namespace mla {
namespace {

std::string in_seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f s", seconds < 10 ? 2 : 0, seconds);
  return text;
}

}  // namespace

void PartTimes::settle() {
  const Clock::time_point now = Clock::now();
  const std::chrono::duration<double> passed = now - since_;
  since_ = now;
  if (current_.empty()) return;
  const auto part =
      std::find_if(parts_.begin(), parts_.end(), [&](const auto& known) { return known.first == current_; });
  if (part == parts_.end()) {
    parts_.emplace_back(current_, passed.count());
  } else {
    part->second += passed.count();
  }
}

double PartTimes::seconds(const std::string& part) const {
  for (const auto& [name, seconds] : parts_) {
    if (name == part) return seconds;
  }
  return 0;
}

std::string PartTimes::text() const {
  double sum = 0;
  std::string parts;
  for (const auto& [name, seconds] : parts_) {
    sum += seconds;
    parts += (parts.empty() ? ": " : ", ") + name + " " + in_seconds(seconds);
  }
  return in_seconds(sum) + parts;
}

}  // namespace mla
