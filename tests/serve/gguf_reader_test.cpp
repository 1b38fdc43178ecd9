// GGUF files of llama.cpp's architecture deepseek2: what their layers compute, by the definition, and one line for what
// is not read.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/model/checkpoint.h"
#include "tests/fuzz/support/mutate.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_deepseek2.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::SmallDeepSeek2;
using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

constexpr double kSameDeepSeek2 = 1e-5;

Checkpoint read_deepseek2(const SmallDeepSeek2& file, const LoadOptions& options = {}) {
  const TemporaryFolder folder;
  return load_checkpoint(folder.write("x.gguf", file.file().bytes()), options);
}

std::string deepseek2_error(const SmallDeepSeek2& file) {
  return test::message_of<DataError>([&] { read_deepseek2(file); });
}

at::Tensor tensor_of(const SmallDeepSeek2& file, const std::string& name) {
  std::vector<float> values = file.values_of(name);
  return at::from_blob(values.data(), file.shapes.at(name), at::kFloat).to(at::kDouble);
}

at::Tensor normalised(const at::Tensor& x, const at::Tensor& weight) {
  return x / (x.square().mean(-1, true) + static_cast<double>(SmallDeepSeek2::kEpsilon)).sqrt() * weight;
}

/// The pair (0, 1) turned by the position.
at::Tensor turned(const at::Tensor& pair, std::int64_t position) {
  const double angle = static_cast<double>(position), c = std::cos(angle), s = std::sin(angle);
  return at::stack({pair[0] * c - pair[1] * s, pair[0] * s + pair[1] * c});
}

/// Attention of the block by llama.cpp's definition: per head n content dims, then the rotated pair; the latent is
/// normalised, keys come from it by attn_k_b, transposed, values by attn_v_b.
at::Tensor attention_by_definition(const SmallDeepSeek2& file, const at::Tensor& x) {
  const at::Tensor query = tensor_of(file, "blk.0.attn_q"), kv_a = tensor_of(file, "blk.0.attn_kv_a_mqa");
  const at::Tensor k_b = tensor_of(file, "blk.0.attn_k_b"), v_b = tensor_of(file, "blk.0.attn_v_b");
  const at::Tensor norm = tensor_of(file, "blk.0.attn_kv_a_norm"), output = tensor_of(file, "blk.0.attn_output");
  std::vector<at::Tensor> rows;
  for (std::int64_t t = 0; t < x.size(0); ++t) {
    std::vector<at::Tensor> heads;
    for (std::int64_t head = 0; head < 2; ++head) {
      const at::Tensor q = query.narrow(0, 4 * head, 4).mv(x[t]), q_rotated = turned(q.narrow(0, 2, 2), t);
      std::vector<at::Tensor> logits, values;
      for (std::int64_t s = 0; s <= t; ++s) {
        const at::Tensor cached = kv_a.mv(x[s]), latent = normalised(cached.narrow(0, 0, 3), norm);
        const at::Tensor content = k_b[head].t().mv(latent), rotated = turned(cached.narrow(0, 3, 2), s);
        logits.push_back((q.narrow(0, 0, 2).dot(content) + q_rotated.dot(rotated)) / std::sqrt(4.0));
        values.push_back(v_b[head].mv(latent));
      }
      heads.push_back(at::stack(values).t().mv(at::stack(logits).softmax(0)));
    }
    rows.push_back(output.mv(at::cat(heads)));
  }
  return at::stack(rows);
}

at::Tensor logits_by_definition(const SmallDeepSeek2& file, const at::Tensor& ids) {
  const at::Tensor table = tensor_of(file, "token_embd");
  at::Tensor x = table.index_select(0, ids);
  x = x + attention_by_definition(file, normalised(x, tensor_of(file, "blk.0.attn_norm")));
  const at::Tensor inner = normalised(x, tensor_of(file, "blk.0.ffn_norm"));
  const at::Tensor gate = inner.matmul(tensor_of(file, "blk.0.ffn_gate").t());
  const at::Tensor hidden = gate * gate.sigmoid() * inner.matmul(tensor_of(file, "blk.0.ffn_up").t());
  x = x + hidden.matmul(tensor_of(file, "blk.0.ffn_down").t());
  return normalised(x, tensor_of(file, "output_norm")).matmul(table.t());
}

double difference_from_definition(const SmallDeepSeek2& file) {
  const at::NoGradGuard off;
  const at::Tensor ids = at::tensor({0, 3, 1, 4, 2, 2, 0}, at::kLong);
  return test::largest_difference(read_deepseek2(file).decoder.forward(ids.unsqueeze(0))[0],
                                  logits_by_definition(file, ids));
}

TEST(GgufDeepSeek2, ComputesWhatLlamaCppDefines) {
  const SmallDeepSeek2 file;
  EXPECT_LT(difference_from_definition(file), kSameDeepSeek2);
  const Checkpoint read = read_deepseek2(file);
  EXPECT_EQ(cached_elements(read.decoder.spec()), 3 + 2);
  const at::Tensor down = as_latent(*read.decoder.layers[0].attention)->weights().down.to_dense();
  const at::Tensor rows = tensor_of(file, "blk.0.attn_kv_a_mqa").narrow(0, 0, 3) / 0x1p-20;
  EXPECT_EQ(test::largest_difference(down, rows), 0) << "the power of two is taken back exactly";
}

TEST(GgufDeepSeek2, TheNormMayBeSplitOverTheInput) {
  SmallDeepSeek2 file;
  for (const auto& [name, factor] : {std::pair{"blk.0.attn_norm", 0x1p-10F}, {"blk.0.attn_q", 0x1p10F}}) {
    std::vector<float> values = file.values_of(name);
    for (float& value : values) value *= factor;
    file.values[name] = values;
  }
  std::vector<float> kv_a = file.values_of("blk.0.attn_kv_a_mqa");
  for (float& value : kv_a) value *= 0x1p10F;
  file.values["blk.0.attn_kv_a_mqa"] = kv_a;
  EXPECT_LT(difference_from_definition(file), kSameDeepSeek2);
}

TEST(GgufDeepSeek2, OlderFilesHoldUpProjectionsTogether) {
  const SmallDeepSeek2 newer;
  SmallDeepSeek2 older = newer;
  for (const char* key : {"attention.key_length_mla", "attention.value_length_mla"}) older.numbers.erase(key);
  older.numbers["attention.key_length"] = 4;
  older.numbers["attention.value_length"] = 2;
  older.numbers["attention.head_count_kv"] = 2;
  older.numbers.erase("attention.q_lora_rank");
  for (const char* name : {"blk.0.attn_k_b", "blk.0.attn_v_b"}) older.shapes.erase(name);
  older.shapes["blk.0.attn_kv_b"] = {8, 3};
  const at::Tensor keys = tensor_of(newer, "blk.0.attn_k_b").transpose(1, 2),
                   values = tensor_of(newer, "blk.0.attn_v_b");
  const at::Tensor both = at::cat({keys, values}, 1).to(at::kFloat).contiguous();
  older.values["blk.0.attn_kv_b"] = {both.const_data_ptr<float>(), both.const_data_ptr<float>() + both.numel()};
  const at::NoGradGuard off;
  const at::Tensor ids = at::tensor({0, 3, 1, 4}, at::kLong).unsqueeze(0);
  EXPECT_TRUE(at::equal(read_deepseek2(older).decoder.forward(ids), read_deepseek2(newer).decoder.forward(ids)));
}

TEST(GgufDeepSeek2, ShapesAloneAreLookedAtWithoutValues) {
  EXPECT_EQ(read_deepseek2({}, {.placement = {}, .check_finite = false, .values = false}).decoder.spec(),
            read_deepseek2({}).decoder.spec());
}

TEST(GgufDeepSeek2, ExpertsThatNoBlockHasDoNotMatter) {
  SmallDeepSeek2 file;
  for (const char* key : {"expert_count", "expert_used_count", "expert_shared_count", "expert_feed_forward_length"})
    file.numbers[key] = 8;
  EXPECT_LT(difference_from_definition(file), kSameDeepSeek2) << "as llama.cpp's own converter writes dense models";
}

TEST(GgufDeepSeek2, WhatIsNotRead) {
  const auto with = [](const char* key, std::uint32_t value) {
    SmallDeepSeek2 file;
    file.numbers[key] = value;
    return deepseek2_error(file);
  };
  EXPECT_THAT(with("leading_dense_block_count", 0),
              AllOf(HasSubstr("deepseek2.leading_dense_block_count = 0"), HasSubstr("mixtures of experts")));
  EXPECT_THAT(with("attention.q_lora_rank", 2), HasSubstr("queries of low rank (attn_q_a, attn_q_b)"));
  EXPECT_THAT(with("nextn_predict_layers", 1), HasSubstr("layers that predict further tokens"));
  EXPECT_THAT(with("attention.key_length_mla", 2), HasSubstr("must be more than the 2 rotated dims"));
  EXPECT_THAT(with("attention.key_length", 6), HasSubstr("expected kv_lora_rank + rotated dims"));
  EXPECT_THAT(with("attention.kv_lora_rank", 0), HasSubstr("deepseek2.attention.kv_lora_rank = 0"));
  EXPECT_THAT(with("rope.dimension_count", 3), HasSubstr("must be even"));
  EXPECT_THAT(with("attention.kv_lora_rank", 4), HasSubstr("expected"));
  EXPECT_THAT(with("attention.new_thing", 1), HasSubstr("deepseek2.attention.new_thing"));
  SmallDeepSeek2 scaled;
  scaled.first.text("deepseek2.rope.scaling.type", "yarn");
  EXPECT_THAT(deepseek2_error(scaled), HasSubstr("scaled rotation is not supported with this architecture"));
  SmallDeepSeek2 low_rank;
  low_rank.shapes["blk.0.attn_q_a"] = {2, 4};
  EXPECT_THAT(deepseek2_error(low_rank), HasSubstr("blk.0.attn_q_a.weight: queries of low rank"));
}

TEST(GgufDeepSeek2, NormsThatChangeLatentsAreNotRead) {
  SmallDeepSeek2 file;
  file.values["blk.0.attn_kv_a_norm"] = {1, 1, 1.5};
  EXPECT_THAT(deepseek2_error(file),
              AllOf(HasSubstr("blk.0.attn_kv_a_norm.weight: a norm on the latent with weights of its own"),
                    HasSubstr("as `mlaforge export` writes them")));
  SmallDeepSeek2 plain;
  plain.values["blk.0.attn_kv_a_norm"] = {1, 1, 1};
  plain.values["blk.0.attn_kv_a_mqa"] = std::vector<float>(20, 0.5F);
  EXPECT_THAT(deepseek2_error(plain), HasSubstr("a norm that changes latents"));
}

TEST(GgufDeepSeek2, TensorsThatDoNotFit) {
  for (const char* name : {"blk.0.attn_q", "blk.0.attn_kv_a_mqa", "blk.0.attn_kv_a_norm", "blk.0.attn_k_b",
                           "blk.0.attn_v_b", "blk.0.attn_output"}) {
    SmallDeepSeek2 missing;
    missing.shapes.erase(name);
    EXPECT_THAT(deepseek2_error(missing), HasSubstr(std::string(name) + ".weight is missing"));
    SmallDeepSeek2 other;
    other.shapes[name] = {4, 3};
    EXPECT_THAT(deepseek2_error(other), HasSubstr(std::string(name) + ".weight: expected shape")) << name;
  }
  SmallDeepSeek2 more;
  more.shapes["blk.0.ffn_gate_exps"] = {2, 6, 4};
  EXPECT_THAT(deepseek2_error(more), HasSubstr("blk.0.ffn_gate_exps.weight has no place in the model"));
}

/// A file with a few bytes, numbers or pieces changed is a model, or it is refused: nothing else.
TEST(GgufDeepSeek2, DamagedFilesAreReadOrRefused) {
  const TemporaryFolder folder;
  const std::string whole = SmallDeepSeek2().file().bytes();
  fuzz::Mutator mutator(5, {"deepseek2.attention.q_lora_rank", "blk.0.attn_kv_b.weight", std::string("\x08\0\0\0", 4)});
  int read = 0, refused = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto path = folder.write("x.gguf", mutator.mutate(whole, whole));
    try {
      load_checkpoint(path).decoder.forward(at::zeros({1, 3}, at::kLong));
      ++read;
    } catch (const DataError&) {
      ++refused;
    } catch (const ConfigError& error) {
      ADD_FAILURE() << "a file is data: " << error.what();
    }
  }
  EXPECT_GT(read, 50);
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace mla
