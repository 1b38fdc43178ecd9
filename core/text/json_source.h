// The JSON values of a file one after another, in whichever of the usual forms they stand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "core/text/text_file.h"

namespace mla {

/// One value as it stands in the file, and its place for errors: "<file>: line 3" or "<file>: item 2".
struct JsonText {
  std::string text, where;
};

/// Reads a text file (core/text/text_file.h) of one of three forms, told by what is in it and not by its name: an
/// array, whose items are the values; one value a line, empty lines passed over; or one object over several lines.
/// Memory holds one value and one block.
class JsonSource {
 public:
  virtual ~JsonSource() = default;

  /// The next value's text, not yet parsed; false at the end. Throws DataError as TextFile does, for an array that is
  /// cut short or followed by something else, and for a value of more than PieceReader::kLargestPiece bytes.
  virtual bool next(JsonText& value) = 0;

  /// Bytes of the file behind the values handed out.
  virtual std::int64_t bytes_read() const = 0;
};

/// Throws DataError as TextFile does.
std::unique_ptr<JsonSource> open_json(const std::filesystem::path& file);
std::unique_ptr<JsonSource> open_json(TextFile file);

/// Whether the file holds one object whose key "ids" has an array: token ids. Reads no further than it must.
bool holds_ids_object(const std::filesystem::path& file);

}  // namespace mla
