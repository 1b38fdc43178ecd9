// The config.json of a model of one layer, from which seeds are made.
#pragma once

#include "core/base/json.h"

namespace mla::fuzz {

inline Json tiny_config(const char* type) {
  return {{"model_type", type},
          {"architectures", {"LlamaForCausalLM"}},
          {"vocab_size", 5},
          {"hidden_size", 4},
          {"intermediate_size", 6},
          {"num_hidden_layers", 1},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"max_position_embeddings", 16},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", true},
          {"bos_token_id", 1},
          {"eos_token_id", {2, 3}}};
}

}  // namespace mla::fuzz
