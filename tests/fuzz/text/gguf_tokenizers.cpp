// Tokenizers in GGUF files.
#include "core/text/gguf_tokenizer.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/use_tokenizer.h"
#include "tests/support/gguf_models.h"

namespace mla::fuzz {
namespace {

std::vector<std::string> gguf_tokenizer_seeds() {
  test::GgufBytes bpe, llama, pieces;
  test::add_tiny_byte_level(bpe, "default").flag("tokenizer.ggml.add_bos_token", true);
  test::add_tiny_byte_level(llama, "llama-bpe").flag("tokenizer.ggml.add_eos_token", true);
  test::add_tiny_pieces(pieces).flag("tokenizer.ggml.add_space_prefix", false);
  return {bpe.bytes(), llama.bytes(), pieces.bytes()};
}

void run_gguf_tokenizer(std::string_view input) {
  const auto path = input_file("gguf_tokenizer/model.gguf", input);
  use_tokenizer(*load_tokenizer(path), input);
  write_gguf_tokenizer(path, path.parent_path());
}

const Registration kGgufTokenizer({"gguf_tokenizer",
                                   run_gguf_tokenizer,
                                   gguf_tokenizer_seeds,
                                   {"tokenizer.ggml.pre", "tokenizer.ggml.token_type", "tokenizer.ggml.scores",
                                    "tokenizer.ggml.merges", "tokenizer.ggml.padding_token_id", "smollm", "qwen2",
                                    "tokenizer.ggml.remove_extra_whitespaces", "<0x41>", "<eos>"}});

}  // namespace
}  // namespace mla::fuzz
