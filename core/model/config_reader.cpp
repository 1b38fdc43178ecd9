#include "core/model/config_reader.h"

#include "core/base/error.h"

namespace mla {
namespace {

/// Keys of published configs that say nothing about the function computed from weights and tokens.
const std::set<std::string> kHarmless = {"architectures",
                                         "model_type",
                                         "torch_dtype",
                                         "dtype",
                                         "transformers_version",
                                         "use_cache",
                                         "initializer_range",
                                         "attention_dropout",
                                         "hidden_dropout",
                                         "embd_pdrop",
                                         "resid_pdrop",
                                         "pretraining_tp",
                                         "bos_token_id",
                                         "eos_token_id",
                                         "pad_token_id",
                                         "sep_token_id",
                                         "unk_token_id",
                                         "decoder_start_token_id",
                                         "name_or_path",
                                         "auto_map",
                                         "is_decoder",
                                         "is_encoder_decoder",
                                         "is_llama_config",
                                         "task_specific_params",
                                         "finetuning_task",
                                         "problem_type",
                                         "id2label",
                                         "label2id",
                                         "num_labels",
                                         "return_dict",
                                         "return_dict_in_generate",
                                         "output_attentions",
                                         "output_hidden_states",
                                         "output_scores",
                                         "output_past",
                                         "torchscript",
                                         "use_bfloat16",
                                         "tokenizer_class",
                                         "prefix",
                                         "chunk_size_feed_forward",
                                         "add_cross_attention",
                                         "cross_attention_hidden_size",
                                         "tie_encoder_decoder",
                                         "pruned_heads",
                                         "max_length",
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
                                         "begin_suppress_tokens",
                                         "tf_legacy_loss",
                                         "rope_interleaved",
                                         "gradient_checkpointing",
                                         "use_flash_attn",
                                         "use_mambapy",
                                         "pretraining_seq_length",
                                         "vocab_file",
                                         "unsloth_version",
                                         "unsloth_fixed"};

}  // namespace

ConfigReader::ConfigReader(const Json& config, std::string name) : config_(config), name_(std::move(name)) {
  if (!config_.is_object()) throw DataError(cat(name_, ": expected an object, found ", kind_of(config_)));
}

const Json* ConfigReader::find(const std::string& key) {
  asked_.insert(key);
  return has(key) ? &config_.at(key) : nullptr;
}

bool ConfigReader::has(const std::string& key) const {
  const auto found = config_.find(key);
  return found != config_.end() && !found->is_null();
}

bool ConfigReader::is_null(const std::string& key) const { return config_.contains(key) && config_.at(key).is_null(); }

void ConfigReader::refuse(const std::string& key, const std::string& rule) const {
  throw DataError(cat(name_, ": ", key, " = ", config_.contains(key) ? config_.at(key).dump() : "absent", ": ", rule));
}

std::int64_t ConfigReader::integer(const std::string& key) {
  const Json* found = find(key);
  if (!found) throw DataError(cat(name_, ": ", key, " is missing"));
  if (!found->is_number_integer()) refuse(key, "must be an integer");
  return found->get<std::int64_t>();
}

std::int64_t ConfigReader::integer_or(const std::string& key, std::int64_t fallback) {
  return find(key) ? integer(key) : fallback;
}

std::optional<double> ConfigReader::optional_number(const std::string& key) {
  const Json* found = find(key);
  if (!found) return std::nullopt;
  if (!found->is_number()) refuse(key, "must be a number");
  return found->get<double>();
}

double ConfigReader::number_or(const std::string& key, double fallback) {
  return optional_number(key).value_or(fallback);
}

bool ConfigReader::boolean_or(const std::string& key, bool fallback) {
  const Json* found = find(key);
  if (!found) return fallback;
  if (!found->is_boolean()) refuse(key, "must be true or false");
  return found->get<bool>();
}

std::string ConfigReader::string_or(const std::string& key, const std::string& fallback) {
  const Json* found = find(key);
  if (!found) return fallback;
  if (!found->is_string()) refuse(key, "must be a string");
  return found->get<std::string>();
}

std::optional<std::int64_t> ConfigReader::optional_token(const std::string& key) {
  const Json* found = find(key);
  if (!found) return std::nullopt;
  const Json& first = found->is_array() && !found->empty() ? found->at(0) : *found;
  if (!first.is_number_integer()) refuse(key, "must be a token id");
  return first.get<std::int64_t>();
}

Json ConfigReader::value(const std::string& key) {
  const Json* found = find(key);
  return found ? *found : Json(nullptr);
}

void ConfigReader::require(const std::string& key, const Json& only, const std::string& rule) {
  const Json* found = find(key);
  if (found && *found != only) refuse(key, rule);
}

void ConfigReader::finish() const {
  for (const auto& [key, value] : config_.items()) {
    if (asked_.contains(key) || kHarmless.contains(key) || key.starts_with("_") || value.is_null() || value == false)
      continue;
    refuse(key, "not supported: this key may change the function of the model, so it is not ignored");
  }
}

}  // namespace mla
