// What a table counts: stages of records, or tasks of them, that its filters let through.
#pragma once

#include <string>
#include <vector>

#include "analysis/pivot/pivot.h"
#include "analysis/records/dimension.h"
#include "analysis/tables/table.h"

namespace mla {

/// A stage of a record, or one task of it where tasks are a key.
struct Item {
  Observation observation;
  std::string task;
};

/// The item's value of a row's or column's key: its task, or a dimension.
Json key_of(const Item& item, const std::string& name);

/// How the cache is kept that the observation's scores went through: text of the config; "" where it has no codec.
std::string cache_identity(const Observation& observation);

/// Stages that were evaluated, in the order met.
std::vector<std::string> stages_of(const RecordOutline& record);

/// The items of a table. Throws ConfigError for a filter that names no key.
std::vector<Item> collect_items(const RecordSet& set, const std::vector<const LoadedRecord*>& records,
                                const TableSpec& spec);

bool contains(const std::vector<std::string>& list, const std::string& name);

}  // namespace mla
