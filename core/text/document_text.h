// The text of one JSON value of a corpus.
#pragma once

#include <string>

#include "core/text/json_source.h"

namespace mla {

/// A string's own text, or that of an object's field `field`. Throws DataError naming the place, what is there, and the
/// option that would help: for JSON that is malformed, a field that is missing, null, no string, or there twice.
std::string text_of(const JsonText& value, const std::string& field);

}  // namespace mla
