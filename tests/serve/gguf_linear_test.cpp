// Rotation over a factor in files of llama.cpp's architecture deepseek2.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/gguf/file.h"
#include "core/serve/deepseek_form.h"
#include "tests/serve/served_models.h"

namespace mla {
namespace {

constexpr double kFactor = 4, kSameLinear = 5e-5;

Checkpoint linear_model() {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.rope_scaling.type = "linear";
  spec.rope_scaling.factor = kFactor;
  Checkpoint model = test::tiny_checkpoint("gqa");
  model.decoder = test::PassedModel(spec).after(test::per_head_keys({{"name", "comb"}, {"pairs", 1}}));
  model.decoder.move_to({.storage = at::kFloat, .compute = at::kFloat});
  return model;
}

/// llama.cpp multiplies logits by (1 + 0.1 ln factor)^2 where frequencies are divided by it; what files hold takes that
/// back.
TEST(GgufLinear, QueriesTakeBackWhatLlamaCppMultipliesBy) {
  const test::TemporaryFolder folder;
  const Checkpoint model = linear_model();
  const std::filesystem::path path = folder / "model.gguf";
  export_model(model, "gguf", {"F32", false, {}, "none"}, path);
  const gguf::File file(path);
  EXPECT_EQ(file.metadata()["deepseek2.rope.scaling.type"], "linear");
  EXPECT_EQ(file.metadata()["deepseek2.rope.scaling.factor"], kFactor);
  const at::Tensor own = DeepSeekForm(model.decoder, {}, "here").layer(0).query;
  const auto held = std::find_if(file.tensors().begin(), file.tensors().end(),
                                 [](const gguf::Tensor& tensor) { return tensor.name == "blk.0.attn_q.weight"; });
  ASSERT_NE(held, file.tensors().end());
  const at::Tensor written = at::from_blob(const_cast<std::byte*>(held->data), {own.numel()}, at::kFloat);
  EXPECT_NEAR((own.norm() / written.norm()).item<double>(), std::pow(1 + 0.1 * std::log(kFactor), 2), 1e-5);
}

TEST(GgufLinear, IsReadAgain) {
  const test::TemporaryFolder folder;
  const Checkpoint model = linear_model();
  export_model(model, "gguf", {"F32", false, {}, "none"}, folder / "model.gguf");
  const Decoder read = load_checkpoint(folder / "model.gguf").decoder;
  EXPECT_EQ(read.spec().rope_scaling.type, "linear");
  EXPECT_EQ(read.spec().rope_scaling.factor, kFactor);
  EXPECT_LE(test::logit_difference(read, model.decoder), kSameLinear);
}

}  // namespace
}  // namespace mla
