// A trained model as the beginning of one with fewer KV heads.
#pragma once

#include "core/model/decoder.h"

namespace mla {

/// A model of `spec` in float32 with the weights of `source`, each of its KV heads the mean of those whose place it
/// takes: what Ainslie et al. (arXiv 2305.13245, section 2.1) found the best beginning of "uptraining". With as many KV
/// heads as the source has, its weights as they are.
/// Throws ConfigError for a converted source, naming what differs where more than the KV heads does, and for KV heads
/// that do not divide the source's.
Decoder pool_kv_heads(const Decoder& source, const ModelSpec& spec);

}  // namespace mla
