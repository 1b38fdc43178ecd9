// The files that belong to a model beside its weights and its config.
#pragma once

#include <filesystem>

namespace mla {

/// The folder that a model's files are in: itself, or that of the file.
std::filesystem::path folder_of_model(const std::filesystem::path& source);

/// Whether both are the same existing folder; false for an empty path.
bool is_same_folder(const std::filesystem::path& a, const std::filesystem::path& b);

/// Copies tokenizer and generation files beside `source` into `folder`, or writes the tokenizer that a GGUF file holds
/// as such files; one that cannot be read is warned of.
void copy_companions(const std::filesystem::path& source, const std::filesystem::path& folder);

}  // namespace mla
