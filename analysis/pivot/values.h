// Which numbers a table shows, and what they are for one item.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "analysis/pivot/items.h"

namespace mla {

/// What one column per column key shows.
struct ValueSpec {
  std::string name;
  std::vector<std::pair<std::string, std::string>> parts;  ///< task and metric whose mean it is; no task: the item's
  std::string number;                                      ///< a number of the run instead
  bool share = false;                                      ///< shown in percent
  bool higher_is_better = true;
};

/// The columns that `spec` asks for, as far as the items have them.
std::vector<ValueSpec> value_specs(const std::vector<Item>& items, const TableSpec& spec);

/// Whether a score is shown in percent.
bool is_share(const ScoreOutline& score);

/// Absent where the item has no such number, or lacks one of the tasks whose mean it is.
std::optional<TableValue> value_of(const Item& item, const ValueSpec& value);

using Values = std::vector<std::optional<TableValue>>;

/// One item's values, one per spec, with their average after the shares where it is wanted.
Values values_of(const Item& item, const std::vector<ValueSpec>& specs, std::optional<std::size_t> average_after);

}  // namespace mla
