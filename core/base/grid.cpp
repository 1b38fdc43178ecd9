#include "core/base/grid.h"

#include <algorithm>
#include <map>

#include "core/base/config_path.h"
#include "core/base/error.h"
#include "core/base/hash.h"

namespace mla {
namespace {

constexpr std::size_t kLongestName = 180;  // File systems take 255 bytes; suffixes need some.
constexpr std::size_t kHashDigits = 8;

/// One key of the grid: the paths it sets, and for each choice one value per path.
struct Axis {
  std::vector<std::string> paths;
  std::vector<std::vector<Json>> choices;
};

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> items;
  for (std::size_t begin = 0;;) {
    const std::size_t comma = text.find(',', begin);
    items.push_back(text.substr(begin, comma - begin));
    if (comma == std::string::npos) return items;
    begin = comma + 1;
  }
}

Axis read_axis(const std::string& key, const Json& values) {
  const std::string where = "grid." + key;
  if (!values.is_array() || values.empty()) {
    throw ConfigError(cat(where, ": expected a list of values, not empty, found ", brief(values)));
  }
  Axis axis{split_commas(key), {}};
  for (const Json& value : values) {
    if (std::count(values.begin(), values.end(), value) > 1) {
      throw ConfigError(cat(where, ": the value ", brief(value), " is given twice"));
    }
    if (axis.paths.size() == 1) {
      axis.choices.push_back({value});
    } else if (value.is_array() && value.size() == axis.paths.size()) {
      axis.choices.emplace_back(value.begin(), value.end());
    } else {
      throw ConfigError(cat(where, ": expected lists of ", axis.paths.size(), " values, found ", brief(value)));
    }
  }
  return axis;
}

/// The last `count` parts of a path; "name" alone says nothing, so that its owner is counted with it.
std::string tail(const std::string& path, std::size_t count) {
  const std::vector<std::string> parts = split_path(path);
  std::size_t begin = parts.size() - std::min(count, parts.size());
  const auto is_index = [&](std::size_t i) { return parts[i].front() == '['; };
  while (begin > 0 && (is_index(begin) || (begin + 1 == parts.size() && parts[begin] == "name"))) --begin;
  std::string text;
  for (std::size_t i = begin; i < parts.size(); ++i) text += (i == begin || is_index(i) ? "" : ".") + parts[i];
  return text;
}

/// For each path the shortest tail that no other path has.
std::map<std::string, std::string> short_names(const std::vector<Axis>& axes) {
  std::map<std::string, std::string> names;
  for (const Axis& axis : axes) {
    for (const std::string& path : axis.paths) {
      if (!names.emplace(path, tail(path, 1)).second) throw ConfigError(cat("grid: ", path, " is set by two keys"));
    }
  }
  for (auto& [path, name] : names) {
    const auto clashes = [&](std::size_t count) {
      return std::any_of(names.begin(), names.end(), [&](const auto& other) {
        return other.first != path && tail(other.first, count) == tail(path, count);
      });
    };
    std::size_t count = 1;
    while (clashes(count)) ++count;
    name = tail(path, count);
  }
  return names;
}

/// `text` without what a file name or a shell may dislike: "[16, 8]" becomes "16+8".
std::string file_safe(std::string_view text) {
  constexpr std::string_view kKept = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.=+-";
  constexpr std::string_view kDropped = "[]{}\" ";
  std::string safe;
  for (const char c : text) {
    if (kDropped.find(c) != std::string_view::npos) continue;
    safe += c == ',' ? '+' : kKept.find(c) != std::string_view::npos ? c : '_';
  }
  return safe;
}

std::string cell_name(const Json& overrides, const std::map<std::string, std::string>& names) {
  std::string name;
  for (const auto& [path, value] : overrides.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    name += cat(name.empty() ? "" : ",", file_safe(names.at(path)), "=", file_safe(text));
  }
  return name;
}

/// Names that are too long, or that two cells share after the replacements, end in a hash of the overrides.
void make_unique(std::vector<Cell>& cells) {
  std::map<std::string, int> uses;
  for (const Cell& cell : cells) ++uses[cell.name];
  for (Cell& cell : cells) {
    if (uses[cell.name] == 1 && cell.name.size() <= kLongestName) continue;
    cell.name =
        cell.name.substr(0, kLongestName - kHashDigits - 1) + "-" + hash_json(cell.overrides).substr(0, kHashDigits);
  }
}

/// The cells of `axes`, in the order of nested loops, the first axis outermost.
std::vector<Cell> combine(const std::vector<Axis>& axes, const Json& config) {
  std::vector<Cell> cells{{"", Json::object(), config}};
  for (const Axis& axis : axes) {
    std::vector<Cell> longer;
    for (const Cell& cell : cells) {
      for (const std::vector<Json>& choice : axis.choices) {
        Cell next = cell;
        for (std::size_t i = 0; i < axis.paths.size(); ++i) {
          next.overrides[axis.paths[i]] = choice[i];
          set_at(next.config, axis.paths[i], choice[i]);
        }
        longer.push_back(std::move(next));
      }
    }
    cells = std::move(longer);
  }
  return cells;
}

}  // namespace

std::vector<Cell> expand_grid(const Json& config) {
  Json rest = config;
  rest.erase("grid");
  const Json grid = config.value("grid", Json::object());
  if (!grid.is_object()) throw ConfigError(cat("grid: expected an object, found ", kind_of(grid)));
  if (grid.empty()) return {{"default", Json::object(), rest}};
  std::vector<Axis> axes;
  for (const auto& [key, values] : grid.items()) axes.push_back(read_axis(key, values));
  const auto names = short_names(axes);
  std::vector<Cell> cells = combine(axes, rest);
  for (Cell& cell : cells) cell.name = cell_name(cell.overrides, names);
  make_unique(cells);
  return cells;
}

void add_grid(Json& config, std::string_view assignment) {
  const auto [key, text] = split_assignment(assignment, "--grid");
  Json& grid = config["grid"];
  if (!grid.is_null() && !grid.is_object()) throw ConfigError(cat("grid: expected an object, found ", kind_of(grid)));
  grid[key] = parse_values(text);
}

}  // namespace mla
