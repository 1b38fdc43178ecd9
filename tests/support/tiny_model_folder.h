// A small model with a tokenizer, and text to train it on, on disk.
#pragma once

#include <filesystem>
#include <fstream>

#include "core/model/family.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla::test {

/// Ids of tiny_sentencepiece_like(), the tokenizer in tiny model folders.
constexpr std::int64_t kTinyTokens = 265;

/// Writes a Hugging Face folder: random float32 weights of tiny_geometry("gqa") with `vocabulary` embeddings, and a
/// tokenizer.json with BOS (1), EOS (2) and byte fallback.
inline void write_tiny_model(const std::filesystem::path& folder, std::int64_t vocabulary = kTinyTokens) {
  ModelSpec spec = tiny_spec("gqa");
  spec.vocabulary = vocabulary;
  save_checkpoint({tiny_decoder(spec, at::ScalarType::Float), make_config(spec), {}}, folder);
  std::ofstream(folder / "tokenizer.json") << tiny_sentencepiece_like().dump();
}

/// What a small experiment reads: FOLDER/model, and FOLDER/text.txt with documents that end with "###".
inline void write_tiny_inputs(const TemporaryFolder& folder) {
  write_tiny_model(folder / "model");
  std::string text;
  for (int i = 0; i < 60; ++i) text += "ab abc ab cab ba\nabc ab\n###";
  folder.write("text.txt", text);
}

/// The config of a small experiment on them, "@" standing for the folder: one conversion, training, one perplexity.
/// `changes` is a JSON merge patch.
inline Json tiny_experiment(const Json& changes) {
  Json config = parse_json(R"({
     "model": {"path": "@/model"},
     "results": "@/results",
     "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                   "low_rank": {"name": "joint_svd", "d_kv": 2}}],
     "train": {"batch_rows": 2, "sequence_length": 16, "learning_rate": 0.003,
               "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}},
     "evaluate": [{"task": "perplexity", "context": 32,
                   "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}]})",
                           "the small experiment");
  config.merge_patch(changes);
  return config;
}

}  // namespace mla::test
