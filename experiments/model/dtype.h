// Number types by name, for options.
#pragma once

#include <c10/core/ScalarType.h>

#include <string>

namespace mla {

/// float64, float32, bfloat16 or float16. Throws ConfigError "<path>: no 'flaot64'; did you mean …".
at::ScalarType parse_dtype(const std::string& name, const std::string& path);

/// The name that parse_dtype reads.
std::string dtype_name(at::ScalarType type);

/// For options of arithmetic and storage: "float64 | float32 | …".
std::string dtype_choices();

}  // namespace mla
