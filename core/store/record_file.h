// The file of a record, for readers of parts of it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/store/hdf5_file.h"

namespace mla {

/// Opens `path` and makes sure that it is a record of this version. Throws DataError otherwise.
Hdf5File open_record(const std::filesystem::path& path);

/// Fields of a score that earlier records of this version lack.
inline const std::vector<std::string> kLaterScoreFields = {"group_sizes", "group_unit"};

/// The group of a layer, "/compression/layer_000".
std::string layer_group(std::size_t layer);

}  // namespace mla
