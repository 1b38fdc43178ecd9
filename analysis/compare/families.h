// Cells that differ in one value of their configs and in nothing else.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "analysis/records/record_set.h"

namespace mla {

/// One record, its value at the path that is compared, and the stage that counts.
struct FamilyCell {
  const LoadedRecord* record = nullptr;
  std::string value, stage;
};

/// Cells that may be paired: by value of the path.
using Family = std::map<std::string, const FamilyCell*>;

/// Families by configs that are equal but for the value at `by`, seeds included; where none of them has two cells, by
/// the other settings of the cells' grids. What a reader must know of them is added to `notes`. `cells` must outlive
/// the result. Throws DataError where no two cells can be paired.
std::vector<Family> make_families(const std::vector<FamilyCell>& cells, const std::string& by,
                                  std::vector<std::string>& notes);

}  // namespace mla
