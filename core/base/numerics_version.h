// Which numbers this program computes.
#pragma once

namespace mla {

/// Raise it whenever the same config on the same machine gives other numbers than before, beyond the rounding that the
/// documents allow: a fault mended in a loss, a tokenizer or a reader of weights, another default, another random
/// stream. Speed, messages and new options leave it. It stands in every record, and tables say where they mix versions.
/// Records without it are of version 1.
/// 2: losses in float32 or better whatever the weights' type; split patterns and token tables as the reference
///    libraries read them; packed corpora are unpacked.
constexpr int kNumericsVersion = 2;

}  // namespace mla
