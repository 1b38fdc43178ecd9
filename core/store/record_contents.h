// What a record held when it was written, inside of the record itself: additions by other programs are told from
// changes.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/store/hdf5_file.h"

namespace mla {

/// Where a record lists its objects: a dataset of JSON text, with the checksum of their values as an attribute.
constexpr const char* kContents = "/contents";

/// Adds that list to a record that is otherwise finished: groups as JSON objects of their members, arrays as lists of
/// their attributes. Attributes of groups are those that the group's `fields` describes.
void write_contents(Hdf5File& record);

/// Compares a record with its list. Absent where it has none: it is of before there were lists.
struct ContentsCheck {
  bool unchanged = true;           ///< everything listed is there, with its value
  std::vector<std::string> added;  ///< paths of objects and links, "path@name" of attributes, that are not listed
};
std::optional<ContentsCheck> check_contents(const Hdf5File& record);

/// How a record's file stands to what was written.
enum class RecordState {
  kWhole,      ///< byte by byte as it was written
  kAnnotated,  ///< another program has opened it for writing; all that was written is there, unchanged
  kUnchecked,  ///< likewise, but it is a record of before there were lists: whether all is unchanged nobody can tell
};
struct RecordCheck {
  RecordState state = RecordState::kWhole;
  std::vector<std::string> added;  ///< of an annotated record, see ContentsCheck
};

/// Opens a record and looks. HDF5 cuts off what stands after its content, the checksum of the file with it, when
/// anything opens the file for writing. Throws DataError for a file that is no record, or damaged, or of which
/// something was changed that had been written.
RecordCheck check_record(const std::filesystem::path& path);

}  // namespace mla
