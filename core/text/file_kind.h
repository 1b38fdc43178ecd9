// Files that are no text, told by what they begin with.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace mla {

/// Bytes at the beginning of a file that file_kind() wants to see, where there are so many.
inline constexpr std::size_t kFileHead = 4096;

/// What a file is, and what makes text of it.
struct FileKind {
  std::string name;    ///< "a Parquet file"
  std::string advice;  ///< "convert it to JSON lines, …"
};

/// The kind of a file with this beginning that is no text: tables, archives, documents, pictures, weights, text in
/// another encoding than UTF-8. Nothing where it may be text.
std::optional<FileKind> file_kind(std::string_view head);

/// The kind of packed file that the name's last extension promises (".gz", ".zst", ".xz", …), in words; empty: none.
std::string promised_packing(std::string_view file_name);

/// `file_name` without the extension of one of the three packings that are unpacked.
std::string_view unpacked_name(std::string_view file_name);

}  // namespace mla
