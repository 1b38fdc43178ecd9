// A small model of every kind of attention.
#pragma once

#include <string>

#include "core/model/model_spec.h"

namespace mla::test {

/// Three layers of tiny_model(tiny)'s sizes, among them some of the registered kind; null layers nowhere.
/// Throws std::logic_error for a kind that has no model here: add one with the kind.
ModelSpec spec_with_attention(const std::string& kind, const std::string& tiny = "gqa");

}  // namespace mla::test
