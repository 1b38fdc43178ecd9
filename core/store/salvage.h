// What can still be read of a damaged record.
#pragma once

#include <filesystem>
#include <string>

namespace mla {

/// Reads what is left of a damaged record and writes it to `out` as a record. Returns "" when all of it was there (only
/// the end of the file was damaged), or else what was lost; the new record then has status interrupted and says so. A
/// file that was cut is read as if zeros followed; arrays carry checksums, so that wrong numbers are not taken for
/// right ones. HDF5 may crash on damaged files: call this in a process of its own. Throws DataError when not even the
/// config is left.
std::string salvage_record(const std::filesystem::path& damaged, const std::filesystem::path& out);

}  // namespace mla
