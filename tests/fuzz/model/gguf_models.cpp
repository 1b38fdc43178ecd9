// Models in GGUF files.
#include "tests/support/gguf_models.h"

#include <ATen/ATen.h>

#include "core/model/checkpoint.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"
#include "tests/support/gguf_deepseek2.h"

namespace mla::fuzz {
namespace {

std::vector<std::string> gguf_model_seeds() {
  std::vector<std::string> seeds;
  for (const char* architecture : {"llama", "qwen2"}) {
    test::GgufBytes file;
    test::add_smallest_keys(file, architecture);
    file.number(std::string(architecture) + ".rope.freq_base", 5000.0F);
    file.number("tokenizer.ggml.eos_token_id", 2U).texts("general.tags", {"a", "b"});
    if (seeds.empty()) file.tensor("rope_freqs.weight", {1}, {1});
    test::add_smallest_tensors(file);
    if (!seeds.empty()) {
      for (const auto& [name, size] : {std::pair{"q", 4}, {"k", 2}, {"v", 2}})
        file.tensor(std::string("blk.0.attn_") + name + ".bias", {size}, std::vector<float>(size, 1));
    }
    seeds.push_back(file.bytes());
  }
  seeds.push_back(test::SmallDeepSeek2().file().bytes());
  return seeds;
}

/// The weights are small whatever the file says; so must be what is made of them.
void run_gguf_model(std::string_view input) {
  constexpr std::int64_t kMostGrowth = 32;  // bits of a value that may have had one in the file
  const Checkpoint checkpoint = load_checkpoint(input_file("gguf_model/model.gguf", input));
  const std::int64_t values = count_parameters(checkpoint.decoder.spec()).total();
  promise(values <= static_cast<std::int64_t>(input.size()) * kMostGrowth, "a model larger than its file");
  const at::Tensor ids = at::zeros({1, 3}, at::kLong);
  checkpoint.decoder.forward(ids);
}

const Registration kGgufModel({"gguf_model",
                               run_gguf_model,
                               gguf_model_seeds,
                               {"GGUF",
                                "general.architecture",
                                "general.alignment",
                                "split.count",
                                "qwen3",
                                "llama.rope.scaling.type",
                                "yarn",
                                "linear",
                                "llama.rope.scaling.factor",
                                "llama.attention.key_length",
                                "llama.attention.sliding_window",
                                "llama.rope.scaling.original_context_length",
                                "rope_freqs.weight",
                                "output.weight",
                                "blk.0.attn_q_norm.weight",
                                "blk.0.ffn_gate.bias",
                                "deepseek2",
                                "deepseek2.attention.q_lora_rank",
                                "deepseek2.expert_count",
                                "blk.0.attn_kv_b.weight",
                                std::string("\x08\0\0\0", 4),
                                std::string("\x0e\0\0\0", 4)}});

}  // namespace
}  // namespace mla::fuzz
