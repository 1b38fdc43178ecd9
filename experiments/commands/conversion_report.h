// What a conversion did to each layer, as `mlaforge convert` writes it beside the model.
#pragma once

#include <ostream>
#include <vector>

#include "core/compress/report.h"
#include "core/model/model_spec.h"

namespace mla {

inline constexpr const char* kConversionFile = "conversion.json";

/// All passes together, and where there are several, each by itself; with the seconds of each layer.
Json conversion_json(const std::vector<PassReport>& reports, const ModelSpec& source);

/// The same for people; `report` has "weight_bytes" and "output" besides.
void print_conversion(const Json& report, std::ostream& out);

}  // namespace mla
