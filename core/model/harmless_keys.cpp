#include "core/model/harmless_keys.h"

#include <map>
#include <vector>

namespace mla {
namespace {

struct Group {
  const char* reason;
  std::vector<const char*> keys;
};

// Checked against transformers 5 (configuration_utils.py and the families' modelling files): none of these keys is
// read where logits are computed. Each reason says what the key is for instead.
const std::vector<Group>& groups() {
  static const std::vector<Group> all = {
      {"names the class, the library or the machine that wrote the file",
       {"architectures", "transformers_version", "name_or_path", "auto_map", "tokenizer_class", "vocab_file",
        "is_llama_config", "unsloth_version", "unsloth_fixed", "transformers.js_config"}},
      {"is the dtype in which the weights were saved or are to be held; --dtype says so here",
       {"torch_dtype", "dtype", "use_bfloat16", "bf16", "fp16"}},
      {"chooses between implementations of the same function",
       {"attn_implementation", "use_flash_attn", "use_flash_attention", "use_mambapy", "chunk_size_feed_forward",
        "torchscript", "pretraining_tp", "use_cache", "cache_implementation"}},
      {"is used in training only",
       {"initializer_range", "attention_dropout", "hidden_dropout", "embd_pdrop", "resid_pdrop", "attn_pdrop",
        "hidden_dropout_prob", "attention_probs_dropout_prob", "gradient_checkpointing", "tf_legacy_loss",
        "neftune_noise_alpha", "pretraining_seq_length", "classifier_dropout"}},
      {"is the context length under another name; max_position_embeddings is the one that is read",
       {"max_sequence_length", "model_max_length", "max_seq_len", "max_seq_length", "seq_length", "n_ctx"}},
      {"is read by the Qwen families alone", {"max_window_layers", "use_sliding_window"}},
      {"is read with some scaled rotary embeddings alone", {"original_max_position_embeddings"}},
      {"is a token that only padding or other kinds of models use",
       {"pad_token_id", "sep_token_id", "unk_token_id", "cls_token_id", "mask_token_id", "decoder_start_token_id",
        "bos_token", "eos_token", "pad_token", "unk_token"}},
      {"belongs to models with a classifier, an encoder or recurrence",
       {"is_decoder", "is_encoder_decoder", "task_specific_params", "finetuning_task", "problem_type", "id2label",
        "label2id", "num_labels", "add_cross_attention", "cross_attention_hidden_size", "tie_encoder_decoder",
        "output_past"}},
      {"says what a Python call returns",
       {"return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores"}},
      {"is a default of transformers' generate(); options of `mlaforge generate` say so here",
       {"prefix",
        "max_length",
        "max_new_tokens",
        "min_length",
        "do_sample",
        "early_stopping",
        "num_beams",
        "num_beam_groups",
        "diversity_penalty",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "repetition_penalty",
        "length_penalty",
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
        "bad_words_ids",
        "num_return_sequences",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "remove_invalid_values",
        "exponential_decay_length_penalty",
        "suppress_tokens",
        "begin_suppress_tokens"}},
  };
  return all;
}

constexpr const char* kPrivate = "is a remark of the library that wrote the file, as names with _ in front are";

}  // namespace

std::string harmless_reason(const std::string& key) {
  static const std::map<std::string, const char*> reasons = [] {
    std::map<std::string, const char*> map;
    for (const Group& group : groups()) {
      for (const char* name : group.keys) map.emplace(name, group.reason);
    }
    return map;
  }();
  if (key.starts_with("_")) return kPrivate;
  const auto found = reasons.find(key);
  return found == reasons.end() ? "" : found->second;
}

std::string harmless_rope_reason(const std::string& key) {
  if (key == "finetuned") return "says whether the weights were trained with the scaling; YaRN's authors write it";
  return "";
}

}  // namespace mla
