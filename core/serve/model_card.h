// The README.md beside an exported model.
#pragma once

#include <filesystem>

#include "core/serve/export_format.h"

namespace mla {

/// Writes folder/README.md: source, method, ranks, bytes per token, measured losses as far as files beside the model
/// (conversion.json, and a cell's scores) tell them, and how each engine loads the folder.
void write_model_card(const Checkpoint& model, const ExportReport& report, const std::filesystem::path& folder);

}  // namespace mla
