// Which numbers this program computes.
#pragma once

namespace mla {

/// Raise it whenever the same config on the same machine gives other numbers than before, beyond the rounding that the
/// documents allow: a fault mended in a loss, a tokenizer, a reader of weights or a conversion, another random stream.
/// Speed, messages and new options leave it. It stands in every record, and tables say where they mix versions.
/// Records without it are of version 1.
/// 2: losses in float32 or better whatever the weights' type; split patterns and token tables as the reference
///    libraries read them; packed corpora are unpacked.
/// 3: mfa_kr's key lies between keys and values in size, which training depends on; fold_qk_norm of norms whose weights
///    are counted from one.
/// 4: patterns of answers and of parameters' names are over characters, as Python reads them.
constexpr int kNumericsVersion = 4;

}  // namespace mla
