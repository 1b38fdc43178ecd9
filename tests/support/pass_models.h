// Passes on small random models: applied, refused, and what every model that comes out promises.
#pragma once

#include <memory>
#include <string>

#include "core/compress/pass.h"

namespace mla::test {

/// A pass by {"name": …, options}, as the first of a config's list.
std::unique_ptr<Pass> pass_of(const Json& config);
/// What it says to a model that it does not fit.
std::string refusal_of(const Json& config, const ModelSpec& spec);

/// Random rows of ids to calibrate on.
TokenRowList random_rows(const ModelSpec& spec, std::int64_t rows, std::int64_t length, std::uint64_t seed = 11);

/// `source` after the pass, in float64, calibrated on the rows.
Decoder after_pass(const Decoder& source, const Json& config, const TokenRowList& rows, PassReport* report = nullptr);

/// Token by token through the cache, whose bytes are those predicted, by every path, and saved and loaded: the same
/// model of tiny_checkpoint(kind)'s config.
void expect_whole(const Decoder& decoder, const std::string& kind, const at::Tensor& ids);

}  // namespace mla::test
