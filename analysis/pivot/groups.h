// Runs that share a row or a cell of a table.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "analysis/pivot/key_order.h"
#include "analysis/pivot/values.h"

namespace mla {

struct Run {
  const Item* item = nullptr;
  Values values;
};

/// A row before its runs are averaged.
struct Group {
  std::vector<Json> keys;
  const Item* example = nullptr;
  std::set<const LoadedRecord*> records;
  std::map<std::vector<Json>, std::vector<Run>, KeyOrder> runs;  ///< by column key
  std::map<std::vector<Json>, std::set<std::string>, KeyOrder> configs;
};

/// Groups in the order met. `items` must outlive them.
std::vector<Group> collect_groups(const std::vector<Item>& items, const TableSpec& spec,
                                  const std::vector<ValueSpec>& specs, std::optional<std::size_t> average_after);

/// Config paths whose values differ between texts that share a cell of the table.
std::set<std::string> mixed_paths(const std::vector<Group>& groups);

/// The order of rows: a source model before its derivatives and more cache before less, or by keys from left to right.
void sort_groups(std::vector<Group>& groups, const TableSpec& spec);

}  // namespace mla
