// Models in GGUF files: the same function as from a folder of Hugging Face's, and one line for what is not read.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/gguf/element_type.h"
#include "core/model/checkpoint.h"
#include "core/model/gguf_config.h"
#include "core/text/tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_models.h"
#include "tests/support/gguf_of_checkpoint.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::GgufBytes;
using test::message_of;
using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

class GgufKinds : public testing::TestWithParam<std::string> {};

TEST_P(GgufKinds, ComputeWhatTheirFolderDoes) {
  const TemporaryFolder folder;
  const Checkpoint saved = test::tiny_checkpoint(GetParam(), at::kFloat);
  const auto path = folder.write("model.gguf", test::gguf_of(saved).bytes());
  const Checkpoint loaded = load_checkpoint(path);
  EXPECT_EQ(loaded.decoder.spec(), saved.decoder.spec());
  EXPECT_EQ(load_spec(path), saved.decoder.spec());
  const at::Tensor ids = test::random_ids(saved.decoder.spec(), 2, 20);
  EXPECT_TRUE(at::equal(saved.decoder.forward(ids), loaded.decoder.forward(ids)));
  save_checkpoint(loaded, folder / "out");
  EXPECT_TRUE(at::equal(load_checkpoint(folder / "out").decoder.forward(ids), loaded.decoder.forward(ids)));
}

INSTANTIATE_TEST_SUITE_P(Kinds, GgufKinds, testing::ValuesIn(test::tiny_kinds()));

GgufBytes smallest(const std::string& architecture = "llama", const std::string& leave_out = "") {
  GgufBytes file;
  test::add_smallest_keys(file, architecture);
  return test::add_smallest_tensors(file, leave_out);
}

Checkpoint read_gguf(const GgufBytes& file, const LoadOptions& options = {}) {
  const TemporaryFolder folder;
  return load_checkpoint(folder.write("x.gguf", file.bytes()), options);
}

std::string gguf_error(const GgufBytes& file) {
  return message_of<DataError>([&] { read_gguf(file); });
}

TEST(GgufModel, BlocksBecomeFloat32RowByRow) {
  // A Q8_0 embedding of 32 columns: scale 0.5 (0x3800), codes that count on through all rows.
  std::string blocks;
  for (int row = 0; row < 5; ++row) {
    blocks += std::string("\x00\x38", 2);
    for (int i = 0; i < 32; ++i) blocks += static_cast<char>(row * 20 + i - 64);
  }
  GgufBytes file;
  file.text("general.architecture", "qwen2");
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::uint32_t>>{{"block_count", 1},
                                                                                     {"context_length", 16},
                                                                                     {"embedding_length", 32},
                                                                                     {"feed_forward_length", 1},
                                                                                     {"attention.head_count", 1}})
    file.number("qwen2." + key, value);
  file.number("qwen2.attention.layer_norm_rms_epsilon", 1e-6F);
  file.tensor("token_embd.weight", {5, 32}, GgufBytes::kQ8_0, blocks);
  const auto plain = [&](const std::string& name, std::vector<std::int64_t> shape, std::size_t count) {
    file.tensor(name, shape, std::vector<float>(count, 1));
  };
  for (const char* name : {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "blk.0.attn_q.bias",
                           "blk.0.attn_k.bias", "blk.0.attn_v.bias"})
    plain(name, {32}, 32);
  for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"})
    plain(cat("blk.0.", name, ".weight"), {32, 32}, 1024);
  for (const char* name : {"ffn_gate", "ffn_up"}) plain(cat("blk.0.", name, ".weight"), {1, 32}, 32);
  plain("blk.0.ffn_down.weight", {32, 1}, 32);
  const Checkpoint checkpoint = read_gguf(file);
  for (int row = 0; row < 5; ++row) {
    for (int i = 0; i < 32; ++i)
      ASSERT_EQ(checkpoint.decoder.embedding.to_dense()[row][i].item<float>(), 0.5F * static_cast<float>(row * 20 + i - 64));
  }
}

TEST(GgufModel, ShapesAloneTakeNoMemory) {
  LoadOptions shapes;
  shapes.placement.storage.reset();
  shapes.check_finite = shapes.values = false;
  const Checkpoint checkpoint = read_gguf(smallest(), shapes);
  EXPECT_EQ(checkpoint.decoder.embedding.to_dense().sizes(), (std::vector<std::int64_t>{5, 4}));
  EXPECT_EQ(checkpoint.decoder.embedding.to_dense().storage().nbytes(), sizeof(float));
}

TEST(GgufModel, SaysWhatItPassedOver) {
  const TemporaryFolder folder;
  GgufBytes file = smallest();
  file.text("general.name", "x").flag("llama.rope.scaling.finetuned", true);
  const auto keys = passed_over_gguf_keys(gguf::File(folder.write("x.gguf", file.bytes())));
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_EQ(keys[0].first, "general.name");
  EXPECT_EQ(keys[1].first, "llama.rope.scaling.finetuned");
  EXPECT_THAT(gguf_error(smallest().number("llama.attention.scale", 2.0F)),
              HasSubstr("x.gguf: llama.attention.scale = 2.0: not supported: this key may change the function"));
}

TEST(GgufModel, TextsEndAtItsEndOfTurnToo) {
  GgufBytes file = smallest();
  file.number("tokenizer.ggml.eos_token_id", 2U).number("tokenizer.ggml.eot_token_id", 4U);
  const ModelSpec spec = read_gguf(file).decoder.spec();
  EXPECT_THAT(spec.ends, testing::ElementsAre(2, 4));
  EXPECT_EQ(spec.eos, 2);
}

TEST(GgufModel, AConvertedOneTakesItsTokenizerAlong) {
  const TemporaryFolder folder;
  GgufBytes file = smallest();
  const auto path = folder.write("in/x.gguf", test::add_tiny_byte_level(file).bytes());
  folder.write("in/tokenizer.json", "another model's");
  save_checkpoint(load_checkpoint(path), folder / "out");
  EXPECT_EQ(load_tokenizer(folder / "out")->vocabulary_size(), 263);
}

TEST(GgufModel, AConvertedOneWhoseTokenizerIsNotReadIsStillWritten) {
  const TemporaryFolder folder;
  GgufBytes file = smallest();
  const auto path = folder.write("in/x.gguf", test::add_tiny_byte_level(file, "unheard_of").bytes());
  save_checkpoint(load_checkpoint(path), folder / "out");
  EXPECT_FALSE(std::filesystem::exists(folder / "out/tokenizer.json"));
  EXPECT_EQ(load_spec(folder / "out"), load_spec(path));
}

TEST(GgufModel, WhatIsNotRead) {
  EXPECT_THAT(gguf_error(smallest("gemma")),
              HasSubstr("x.gguf: general.architecture: no 'gemma'; known: deepseek2, llama, qwen2, qwen3"));
  EXPECT_THAT(gguf_error(GgufBytes()), HasSubstr("x.gguf: general.architecture is missing"));
  EXPECT_THAT(gguf_error(smallest().text("general.type", "adapter")), HasSubstr("only models are read"));
  EXPECT_THAT(gguf_error(smallest().number("llama.expert_count", 8U)), HasSubstr("mixtures of experts"));
  EXPECT_THAT(gguf_error(smallest().number("llama.vocab_size", 6U)), HasSubstr("token_embd.weight has 5 rows"));
  EXPECT_THAT(gguf_error(smallest().number("llama.attention.value_length", 4U)), HasSubstr("as wide as keys, 2"));
  EXPECT_THAT(gguf_error(smallest().number("llama.rope.dimension_count", 4U)), HasSubstr("only whole heads, of 2"));
  EXPECT_THAT(gguf_error(smallest().number("llama.rope.freq_base", 0.5F)), HasSubstr("must be greater than 1"));
  EXPECT_THAT(gguf_error(smallest().text("llama.rope.scaling.type", "longrope")),
              HasSubstr("llama.rope.scaling.type = \"longrope\": not supported; known: none, linear, yarn"));
  GgufBytes keys_only;
  EXPECT_THAT(gguf_error(test::add_smallest_keys(keys_only, "llama")),
              HasSubstr("tensor token_embd.weight is missing: the file holds no weights"));
}

TEST(GgufModel, TensorsThatDoNotFit) {
  EXPECT_THAT(gguf_error(smallest("llama", "blk.0.ffn_up.weight")),
              HasSubstr("x.gguf: tensor blk.0.ffn_up.weight is missing"));
  EXPECT_THAT(gguf_error(smallest("qwen3")), HasSubstr("tensor blk.0.attn_q_norm.weight is missing"));
  EXPECT_THAT(gguf_error(smallest().tensor("blk.0.attn_qkv.weight", {1}, {1})),
              AllOf(HasSubstr("tensor blk.0.attn_qkv.weight has no place in the model"), HasSubstr("blk.N.attn_q")));
  EXPECT_THAT(gguf_error(smallest("llama", "output_norm.weight").tensor("output_norm.weight", {3}, {1, 1, 1})),
              HasSubstr("tensor output_norm.weight: expected shape [4], found [3]"));
  EXPECT_THAT(
      gguf_error(smallest("llama", "output_norm.weight").tensor("output_norm.weight", {4}, 26, std::string(16, '\0'))),
      HasSubstr("tensor output_norm.weight: expected floating point, found I32"));
  EXPECT_THAT(gguf_error(smallest().tensor("blk.0.attn_q.bias", {4}, {1, 1, 1, 1})),
              HasSubstr("blk.0 has biases for some of attn_q, attn_k, attn_v, attn_output and not for others"));
  EXPECT_THAT(gguf_error(smallest("llama", "output_norm.weight").tensor("output_norm.weight", {4}, {1, NAN, 1, 1})),
              HasSubstr("NaN or infinite"));
}

/// Llama 3's rule on a head of 16 dims: frequencies below low are divided by the factor, those between in part.
std::vector<float> llama3_factors(double theta, double factor, double original) {
  std::vector<float> factors;
  for (int pair = 0; pair < 8; ++pair) {
    const double wavelength = 2 * M_PI * std::pow(theta, 2.0 * pair / 16);
    const double smooth = (original / wavelength - 1) / (4 - 1);
    factors.push_back(static_cast<float>(wavelength < original / 4 ? 1
                                         : wavelength > original   ? factor
                                                                   : 1 / ((1 - smooth) / factor + smooth)));
  }
  return factors;
}

/// A model with heads of 16 dims and these factors.
GgufBytes with_factors(const std::vector<float>& factors) {
  GgufBytes file;
  file.text("general.architecture", "llama");
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::uint32_t>>{{"block_count", 1},
                                                                                     {"context_length", 131072},
                                                                                     {"embedding_length", 16},
                                                                                     {"feed_forward_length", 1},
                                                                                     {"attention.head_count", 1}})
    file.number("llama." + key, value);
  file.number("llama.attention.layer_norm_rms_epsilon", 1e-5F).number("llama.rope.freq_base", 500000.0F);
  file.tensor("rope_freqs.weight", {static_cast<std::int64_t>(factors.size())}, factors);
  return file.tensor("token_embd.weight", {5, 16}, std::vector<float>(80, 1));
}

TEST(GgufModel, Llama3FactorsBecomeTheRule) {
  const TemporaryFolder folder;
  const auto path = folder.write("x.gguf", with_factors(llama3_factors(500000, 8, 8192)).bytes());
  const RotaryScaling scaling = load_spec(path).rope_scaling;
  EXPECT_EQ(scaling.type, "llama3");
  EXPECT_EQ(scaling.factor, 8);
  EXPECT_EQ(scaling.original_positions, 8192);
  EXPECT_EQ(load_spec(folder.write("y.gguf", with_factors(std::vector<float>(8, 1)).bytes())).rope_scaling.type,
            "default");
  EXPECT_THAT(gguf_error(with_factors({1, 1, 2, 3, 4, 5, 6, 7})), HasSubstr("rope_freqs.weight: these factors"));
  EXPECT_THAT(gguf_error(with_factors({1, 1})), HasSubstr("rope_freqs.weight: expected 8 factors, found 2"));
  EXPECT_THAT(gguf_error(with_factors({1, 1, 1, 1, 1, 1, 1, 0})), HasSubstr("rope_freqs.weight[7] = 0"));
}

}  // namespace
}  // namespace mla
