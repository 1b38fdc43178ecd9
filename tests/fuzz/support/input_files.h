// Inputs as files, for readers that take paths.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mla::fuzz {

/// Writes `bytes` to a file of that name, in this process's own folder below the temporary one (TMPDIR; a folder in
/// memory makes this fast), over what an earlier input left there. Slashes in `name` make folders.
std::filesystem::path input_file(const std::string& name, std::string_view bytes);

/// `input` cut at lines of "%%%", at most `count` pieces; always `count` of them, the last ones empty.
std::vector<std::string_view> parts_of(std::string_view input, std::size_t count);

/// The pieces joined again.
std::string join_parts(const std::vector<std::string>& parts);

}  // namespace mla::fuzz
