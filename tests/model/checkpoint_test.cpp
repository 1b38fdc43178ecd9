#include "core/model/checkpoint.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/errors.h"
#include "tests/support/small_files.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::message_of;
using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

/// Saves a tiny llama, lets `spoil` change the folder, and gives the error of loading it again.
template <class Spoil>
std::string error_after(Spoil&& spoil) {
  const TemporaryFolder folder;
  save_checkpoint(test::tiny_checkpoint("mha", at::kFloat), folder.path());
  spoil(folder.path());
  return message_of<DataError>([&] { load_checkpoint(folder.path()); });
}

void change_config(const std::filesystem::path& folder, const std::string& key, const Json& value) {
  Json config = read_json(folder / "config.json");
  config[key] = value;
  write_json(folder / "config.json", config);
}

/// Rewrites model.safetensors after `change` had its way with the tensors.
template <class Change>
void change_tensors(const std::filesystem::path& folder, Change&& change) {
  WeightMap weights = read_safetensors(folder / "model.safetensors");
  for (auto& [name, tensor] : weights) tensor = tensor.clone();
  change(weights);
  write_safetensors(folder / "model.safetensors", {weights.begin(), weights.end()});
}

class SavedModel : public testing::TestWithParam<std::string> {};

TEST_P(SavedModel, LoadsWithTheSameLogits) {
  const TemporaryFolder folder;
  const Checkpoint saved = test::tiny_checkpoint(GetParam());
  save_checkpoint(saved, folder.path());
  const LoadOptions options{.placement = Placement::in(at::kDouble)};
  const Checkpoint loaded = load_checkpoint(folder.path(), options);
  const at::Tensor ids = test::random_ids(saved.decoder.spec(), 2, 20);
  EXPECT_TRUE(at::equal(saved.decoder.forward(ids), loaded.decoder.forward(ids)));
}

INSTANTIATE_TEST_SUITE_P(Kinds, SavedModel, testing::ValuesIn(test::tiny_kinds()));

TEST(Checkpoint, ViewsOfTheFileGiveTheSameLogitsAsCopies) {
  const TemporaryFolder folder;
  save_checkpoint(test::tiny_checkpoint("gqa", at::kBFloat16), folder.path());
  const LoadOptions mapped{.placement = {.storage = std::nullopt}};
  const Checkpoint views = load_checkpoint(folder.path(), mapped), copies = load_checkpoint(folder.path());
  EXPECT_EQ(views.decoder.embedding.scalar_type(), at::kBFloat16);
  const at::Tensor ids = test::random_ids(copies.decoder.spec(), 1, 12);
  EXPECT_TRUE(at::equal(views.decoder.forward(ids), copies.decoder.forward(ids)));
}

TEST(Checkpoint, ATiedMatrixMayStandUnderEitherName) {
  const TemporaryFolder folder;
  const Checkpoint saved = test::tiny_checkpoint("gqa");
  save_checkpoint(saved, folder.path());
  change_tensors(folder.path(), [](WeightMap& weights) {
    auto node = weights.extract("model.embed_tokens.weight");
    node.key() = "lm_head.weight";
    weights.insert(std::move(node));
  });
  const LoadOptions options{.placement = Placement::in(at::kDouble)};
  const at::Tensor ids = test::random_ids(saved.decoder.spec(), 1, 9);
  EXPECT_TRUE(at::equal(load_checkpoint(folder.path(), options).decoder.forward(ids), saved.decoder.forward(ids)));
}

TEST(Checkpoint, MissingFilesAreNamed) {
  EXPECT_THAT(message_of<DataError>([] { load_checkpoint("/no/such/model"); }),
              HasSubstr("/no/such/model: no such file or folder"));
  EXPECT_THAT(error_after([](const auto& folder) { std::filesystem::remove(folder / "config.json"); }),
              HasSubstr("no config.json"));
  EXPECT_THAT(error_after([](const auto& folder) { std::filesystem::remove(folder / "model.safetensors"); }),
              HasSubstr("holds neither model.safetensors nor model.safetensors.index.json"));
}

TEST(Checkpoint, TruncatedFilesAreRefused) {
  const auto cut_to = [](std::size_t bytes) {
    return error_after([&](const auto& folder) { std::filesystem::resize_file(folder / "model.safetensors", bytes); });
  };
  EXPECT_THAT(cut_to(5), HasSubstr("truncated"));
  EXPECT_THAT(cut_to(100), HasSubstr("truncated"));
  EXPECT_THAT(cut_to(20000), AllOf(HasSubstr("lies outside the file"), HasSubstr("truncated?")));
  EXPECT_THAT(error_after([](const auto& folder) {
                std::string bytes = read_file(folder / "model.safetensors");
                const std::uint64_t length = std::numeric_limits<std::uint64_t>::max() - 3;
                std::memcpy(bytes.data(), &length, sizeof length);
                write_file_atomically(folder / "model.safetensors", bytes);
              }),
              HasSubstr("the header says it is"));
}

TEST(Checkpoint, TensorsMustFitTheConfig) {
  const std::string key = "model.layers.1.self_attn.k_proj.weight";
  EXPECT_THAT(error_after([&](const auto& folder) { change_tensors(folder, [&](WeightMap& w) { w.erase(key); }); }),
              HasSubstr("tensor " + key + " is missing"));
  EXPECT_THAT(error_after([&](const auto& folder) {
                change_tensors(folder, [&](WeightMap& w) { w[key] = at::zeros({3, 32}); });
              }),
              HasSubstr(key + ": expected shape [32, 32], found [3, 32]"));
  EXPECT_THAT(error_after([&](const auto& folder) {
                change_tensors(folder, [&](WeightMap& w) { w[key] = at::zeros({32, 32}, at::kInt); });
              }),
              HasSubstr(key + ": expected floating point, found Int"));
  EXPECT_THAT(error_after([&](const auto& folder) {
                change_tensors(folder, [&](WeightMap& w) { w["extra.weight"] = at::zeros({1}); });
              }),
              HasSubstr("tensor extra.weight has no place"));
}

TEST(Checkpoint, NonFiniteWeightsAreRefusedInEveryDtype) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      EXPECT_THAT(error_after([&](const auto& folder) {
                    change_tensors(folder, [&](WeightMap& w) {
                      w["model.norm.weight"] = at::ones({32}, dtype);
                      w["model.norm.weight"][31] = bad;
                    });
                  }),
                  HasSubstr("model.norm.weight: holds NaN or infinite values"));
    }
  }
}

TEST(Checkpoint, MissingShardsAreNamed) {
  const std::string message = error_after([](const auto& folder) {
    std::filesystem::remove(folder / "model.safetensors");
    write_json(folder / "model.safetensors.index.json",
               {{"weight_map", {{"model.norm.weight", "model-00002-of-00002.safetensors"}}}});
  });
  EXPECT_THAT(message, HasSubstr("shard model-00002-of-00002.safetensors is missing"));
}

TEST(Checkpoint, KeysThatChangeTheFunctionAreRefusedByName) {
  const auto with = [](const std::string& key, const Json& value) {
    return error_after([&](const auto& folder) { change_config(folder, key, value); });
  };
  EXPECT_THAT(with("hidden_act", "gelu"), HasSubstr("hidden_act = \"gelu\": not supported; known: silu"));
  EXPECT_THAT(with("num_local_experts", 8), HasSubstr("num_local_experts = 8: not supported"));
  EXPECT_THAT(with("attn_logit_softcapping", 50.0), HasSubstr("attn_logit_softcapping"));
  EXPECT_THAT(with("quantization_config", {{"bits", 4}}), HasSubstr("quantization_config"));
  EXPECT_THAT(with("partial_rotary_factor", 0.5), HasSubstr("partial_rotary_factor = 0.5: only 1 is supported"));
  EXPECT_THAT(with("rope_scaling", {{"rope_type", "ntk"}, {"factor", 2}}),
              HasSubstr("rope_scaling: rope_type = \"ntk\": not supported; known: default, linear"));
  EXPECT_THAT(with("rope_scaling", {{"rope_type", "linear"}}), HasSubstr("factor = absent: needed for linear"));
  EXPECT_THAT(with("rope_scaling", {{"rope_type", "linear"}, {"factor", 2}, {"warp", 1}}),
              HasSubstr("warp = 1: not supported"));
  EXPECT_THAT(
      with("model_type", "mixtral"),
      HasSubstr("no 'mixtral'; did you mean 'mistral'? known: gemma2, gemma3_text, llama, mistral, olmo2, phi3, qwen2, "
                "qwen3, smollm3"));
  EXPECT_THAT(with("num_key_value_heads", 3),
              HasSubstr("num_key_value_heads = 3: must divide num_attention_heads = 4"));
  EXPECT_THAT(with("head_dim", 7), HasSubstr("head_dim = 7"));
  EXPECT_THAT(with("hidden_size", "32"), HasSubstr("hidden_size = \"32\": must be an integer"));
}

TEST(Checkpoint, HarmlessKeysAreIgnored) {
  EXPECT_EQ(error_after([](const auto& folder) {
              change_config(folder, "torch_dtype", "bfloat16");
              change_config(folder, "_name_or_path", "somewhere");
              change_config(folder, "pretraining_tp", 1);
              change_config(folder, "quantization_config", nullptr);
            }),
            "no error");
}

TEST(Checkpoint, MalformedConfigNamesLineAndColumn) {
  EXPECT_THAT(error_after([](const auto& folder) {
                write_file_atomically(folder / "config.json", "{\n  \"vocab_size\": ,\n}");
              }),
              HasSubstr("config.json:2:17: malformed JSON"));
}

TEST(Checkpoint, AFullDiskLeavesNothingBehind) {
  const TemporaryFolder folder;
  const Checkpoint checkpoint = test::tiny_checkpoint("mha");
  std::string message;
  {
    const test::SmallFilesOnly limit(4096);
    message = message_of<DataError>([&] { save_checkpoint(checkpoint, folder.path()); });
  }
  EXPECT_THAT(message, HasSubstr("model.safetensors: cannot be written"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Llama2c, HeaderAndSizeAreChecked) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& bytes) {
    return message_of<DataError>([&] { load_checkpoint(folder.write("model.bin", bytes)); });
  };
  EXPECT_THAT(error("short"), HasSubstr("no llama2.c header"));
  EXPECT_THAT(error(std::string(64, '\xff')), HasSubstr("not a llama2.c (version 0) file"));
  const std::int32_t header[7] = {16, 32, 1, 2, 2, 10, 8};
  EXPECT_THAT(error(std::string(reinterpret_cast<const char*>(header), sizeof header)), HasSubstr("truncated?"));
}

}  // namespace
}  // namespace mla
