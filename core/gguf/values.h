// Values of the metadata of a GGUF file.
#pragma once

#include "core/gguf/byte_reader.h"
#include "core/gguf/file.h"

namespace mla::gguf {

/// The next value of the file; `where` names file and key in errors.
Value read_value(ByteReader& reader, const std::string& where);

/// The same as JSON; of an array with more than a few elements only what it is, in words.
Json to_json(const Value& value);

/// "an array of 3 strings", "a uint32".
std::string describe(const Value& value);

/// The elements of an array of strings.
std::vector<std::string_view> strings_of(const Value& value);

}  // namespace mla::gguf
