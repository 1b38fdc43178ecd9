#include "core/base/suggest.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "core/base/json.h"

namespace mla {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string closest_name(std::string_view name, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string alternatives(std::string_view name, const std::vector<std::string>& known) {
  const std::string near = closest_name(name, known);
  return cat(near.empty() ? "" : cat("did you mean '", near, "'? "), "known: ", known.empty() ? "none" : join(known));
}

std::string unknown_name(std::string_view name, const std::vector<std::string>& known) {
  return cat("no '", brief_text(name), "'; ", alternatives(name, known));
}

std::string join(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

}  // namespace mla
