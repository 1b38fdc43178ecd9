// What the file system refused, as users are told.
#pragma once

#include <filesystem>
#include <string>

namespace mla {

/// "<path>: Permission denied"; the library's words tell its own function first.
std::string told_by_path(const std::filesystem::filesystem_error& error);

}  // namespace mla
