// Adapters: what they change, what is trained of them, and what becomes of them.
#include "core/train/lora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/adapted_weights.h"
#include "core/base/fields.h"
#include "core/base/registry.h"
#include "core/model/checkpoint.h"
#include "core/model/safetensors.h"
#include "core/train/trainer.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kMergedLogits = 1e-10, kMergedFloatLogits = 1e-4;  // float64 and float32

std::vector<std::vector<std::int32_t>> lora_rows() {
  std::vector<std::vector<std::int32_t>> rows;
  for (std::uint64_t i = 0; i < 5; ++i) {
    const at::Tensor ids = test::random_ids(test::tiny_spec("gqa"), 1, 14, 200 + i);
    rows.emplace_back(ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + 14);
  }
  return rows;
}

TrainOptions healing(std::int64_t steps, LoraSave save = LoraSave::kMerged) {
  TrainOptions options;
  options.steps = steps;
  options.batch_rows = 4;
  options.learning_rate = 1e-2;
  options.schedule.warmup_steps = 0;
  options.schedule.decay_steps = 0;
  options.lora = LoraOptions{4, 8, "all", save};
  return options;
}

Decoder lora_source(const std::string& attention = "grouped_query", at::ScalarType dtype = at::kDouble) {
  return test::tiny_decoder(
      attention == "grouped_query" ? test::tiny_spec("biases") : test::spec_with_attention(attention, "biases"), dtype);
}

/// Matrices held as codes of 8 bits, whose codec is no matter.
void hold_as_codes(Decoder& decoder) {
  const std::shared_ptr<const WeightStorage> storage =
      Registry<WeightStorage>::instance().make({{"name", "packed"}, {"bits", 8}, {"group_size", 8}}, "storage");
  decoder.replace_maps([&](const std::string& name, Linear& map) {
    if (!name.starts_with("model.layers.")) return;
    const std::int64_t rows = map.rows(), columns = map.columns();
    const at::Tensor groups = map.matrix_for(at::empty({0})).view({rows, columns / 8, 8});
    const at::Tensor zeros = std::get<0>(groups.min(2)), scales = (std::get<0>(groups.max(2)) - zeros) / 255;
    const at::Tensor codes = ((groups - zeros.unsqueeze(2)) / scales.unsqueeze(2)).round().to(at::kByte);
    map = {storage, {rows, columns}, {codes.view({rows, columns}), scales, zeros}, map.bias()};
  });
}

TensorMap tensors_of(Decoder& decoder) {
  TensorMap all;
  decoder.visit_stored([&](const std::string& name, at::Tensor& tensor) { all[name] = tensor.clone(); });
  return all;
}

class LoraKinds : public testing::TestWithParam<std::string> {};

TEST_P(LoraKinds, BeginAsTheModelAndMergeToWhatTheyGave) {
  const at::NoGradGuard no_grad;
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const Decoder source = lora_source(GetParam(), dtype);
    const at::Tensor ids = test::random_ids(source.spec(), 2, 12), few = ids.narrow(0, 0, 1).narrow(1, 0, 3);
    Decoder adapted = source.clone();
    add_adapters(adapted, {4, 8, "all", LoraSave::kMerged}, 3, "lora");
    // Biases are added and feed-forward parts gated apart: to rounding.
    const double rounding = dtype == at::kDouble ? kMergedLogits : kMergedFloatLogits;
    EXPECT_LT(test::largest_difference(adapted.forward(ids), source.forward(ids)), rounding);
    EXPECT_LT(test::largest_difference(adapted.forward(few), source.forward(few)), rounding);
    EXPECT_EQ(adapted.weight_bytes(), adapted.predicted_weight_bytes());
    EXPECT_EQ(adapted.parameter_count(), count_parameters(adapted.spec()).total());
    adapted.visit_parameters([](const std::string& name, at::Tensor& tensor) {
      if (name.ends_with("lora_B.weight")) tensor.normal_(0, 0.1);
    });
    const at::Tensor changed = adapted.forward(ids);
    EXPECT_FALSE(at::equal(changed, source.forward(ids)));
    Decoder merged = adapted.clone();
    merge_adapters(merged);
    EXPECT_EQ(merged.spec(), source.spec());
    EXPECT_LT(test::largest_difference(merged.forward(ids), changed), rounding);
    // Through a cache, where matrices of latents are taken apart.
    DecoderCache cache = adapted.make_cache(2), same = merged.make_cache(2);
    EXPECT_LT(test::largest_difference(adapted.forward_cached(ids, cache), merged.forward_cached(ids, same)), rounding);
  }
}

INSTANTIATE_TEST_SUITE_P(Attention, LoraKinds, testing::ValuesIn(Registry<AttentionSpec>::instance().names()),
                         [](const auto& one) { return one.param; });

TEST(Lora, AMapBeginsAsItWasToTheBit) {
  const at::NoGradGuard no_grad;
  const at::Tensor weight = at::randn({40, 24}), down = at::randn({4, 24});
  const Linear map(weight), adapted = with_adapters(map, {4, 8}, down);
  for (const std::int64_t tokens : {1, 7, 50}) {
    const at::Tensor x = at::randn({tokens, 24});
    EXPECT_TRUE(at::equal(adapted(x), map(x))) << tokens;
  }
  EXPECT_TRUE(at::equal(adapted.matrix_for(weight), weight));
}

TEST(Lora, TrainsAdaptersAloneAndMergesThem) {
  Decoder decoder = lora_source(), before = decoder.clone();
  RowBatches source(lora_rows());
  const TrainingReport report = train(decoder, source, healing(30));
  EXPECT_EQ(report.status, TrainingStatus::kComplete);
  EXPECT_LT(report.loss.back(), 0.7 * report.loss.front());
  EXPECT_EQ(decoder.spec(), before.spec());
  TensorMap now = tensors_of(decoder), then = tensors_of(before);
  ASSERT_EQ(now.size(), then.size());
  for (const auto& [name, tensor] : then) {
    const bool adapted = name.starts_with("model.layers.") && name.ends_with("_proj.weight");
    EXPECT_EQ(at::equal(now.at(name), tensor), !adapted) << name;
    EXPECT_FALSE(now.at(name).requires_grad());
  }
}

TEST(Lora, TheStateIsThatOfTheAdapters) {
  Decoder decoder = lora_source();
  RowBatches source(lora_rows());
  struct Keep final : TrainingObserver {
    bool after_step(const TrainingStep&, const TrainingRun& run) override {
      for (const auto& [name, tensor] : run.state().tensors) {
        EXPECT_TRUE(name == "step" || name.find(".lora_") != std::string::npos) << name;
        elements += tensor.numel();
      }
      return true;
    }
    std::int64_t elements = 0;
  } keep;
  const TrainOptions options = healing(1);
  std::int64_t expected = 0;
  for (const ModelParameter& one : model_parameters(decoder.spec())) {
    if (one.is_matrix() && one.name.starts_with("model.layers."))
      expected += 4 * (one.matrix().rows + one.matrix().columns);
  }
  EXPECT_EQ(describe_lora(decoder.spec(), *options.lora),
            cat("LoRA of rank 4 on 14 linear maps: ", expected, " of ", decoder.parameter_count() + expected,
                " parameters are trained"));
  train(decoder, source, options, {.observer = &keep});
  EXPECT_EQ(keep.elements, 3 * expected + 1) << "the adapters, two moments of each, and the step";
}

TEST(Lora, AContinuedRunIsTheUndisturbedOne) {
  for (const LoraSave save : {LoraSave::kMerged, LoraSave::kBeside}) {
    const TrainOptions options = healing(8, save);
    Decoder whole = lora_source("grouped_query", at::kFloat);
    RowBatches batches(lora_rows());
    const TrainingReport expected = train(whole, batches, options);
    struct Stop final : TrainingObserver {
      bool after_step(const TrainingStep& step, const TrainingRun& run) override {
        if (step.step != 3) return true;
        state = run.state();
        for (auto& [name, tensor] : state.tensors) tensor = tensor.clone();
        return false;
      }
      TrainingState state;
    } stop;
    Decoder first = lora_source("grouped_query", at::kFloat), second = first.clone();
    RowBatches some(lora_rows()), rest(lora_rows());
    train(first, some, options, {.observer = &stop});
    const TrainingReport found = train(second, rest, options, {.start = &stop.state});
    EXPECT_EQ(found.loss, expected.loss);
    TensorMap a = tensors_of(second), b = tensors_of(whole);
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [name, tensor] : b) EXPECT_TRUE(at::equal(a.at(name), tensor)) << name;
  }
}

TEST(Lora, StaysBesideCodesWhichStayAsTheyAre) {
  const at::NoGradGuard no_grad;
  Decoder decoder = lora_source("grouped_query", at::kFloat);
  hold_as_codes(decoder);
  const TensorMap before = tensors_of(decoder);
  RowBatches source(lora_rows());
  EXPECT_THAT(test::message_of<ConfigError>([&] { train(decoder, source, healing(2)); }),
              HasSubstr("train.lora.save = merged: model.layers.0.self_attn.q_proj is held as 8-bit codes, into which "
                        "adapters are not merged; keep them beside"));
  const at::AutoGradMode record(true);
  const TrainingReport report = train(decoder, source, healing(30, LoraSave::kBeside));
  EXPECT_LT(report.loss.back(), 0.7 * report.loss.front());
  TensorMap after = tensors_of(decoder);
  for (const auto& [name, tensor] : before) EXPECT_TRUE(at::equal(after.at(name), tensor)) << name;
  EXPECT_EQ(after.size(), before.size() + 2 * 14);
  EXPECT_EQ(decoder.weight_bytes(), decoder.predicted_weight_bytes());
  // 14 pairs of adapters more, and elements of matrices count as before.
  EXPECT_EQ(decoder.parameter_count(), count_parameters(decoder.spec()).total());
  EXPECT_GT(decoder.parameter_count(), lora_source().parameter_count());
}

TEST(Lora, ModelsWithAdaptersAreSavedAndLoadedAndMergedByAPass) {
  for (const bool codes : {false, true}) {
    Checkpoint checkpoint = test::tiny_checkpoint("biases", at::kFloat);
    if (codes) hold_as_codes(checkpoint.decoder);
    RowBatches source(lora_rows());
    TrainOptions options = healing(4, LoraSave::kBeside);
    options.lora->maps = R"(q_proj|down_proj)";
    train(checkpoint.decoder, source, options);
    const at::NoGradGuard no_grad;
    const at::Tensor ids = test::random_ids(checkpoint.decoder.spec(), 2, 12), logits = checkpoint.decoder.forward(ids);
    const test::TemporaryFolder folder;
    save_checkpoint(checkpoint, folder.path());
    const Checkpoint loaded = load_checkpoint(folder.path());
    EXPECT_EQ(loaded.decoder.spec(), checkpoint.decoder.spec());
    EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), logits));
    // As PEFT reads them.
    const Json config = read_json(folder / "adapter/adapter_config.json");
    EXPECT_EQ(config["peft_type"], "LORA");
    EXPECT_EQ(config["r"], 4);
    EXPECT_EQ(config["lora_alpha"], 8);
    EXPECT_EQ(config["target_modules"].size(), 4u);
    const WeightMap adapters = read_safetensors(folder / "adapter/adapter_model.safetensors");
    EXPECT_EQ(adapters.size(), 8u);
    const std::string name = "model.layers.1.mlp.down_proj.lora_B.weight";
    EXPECT_TRUE(at::equal(adapters.at("base_model.model." + name), tensors_of(checkpoint.decoder).at(name)));
    // A model without adapters leaves no such files behind.
    if (codes) continue;
    merge_adapters(checkpoint.decoder);
    save_checkpoint(checkpoint, folder.path());
    EXPECT_FALSE(std::filesystem::exists(folder / "adapter/adapter_config.json"));
    EXPECT_TRUE(load_checkpoint(folder.path()).decoder.forward(ids).allclose(logits, 1e-4, 1e-4));
  }
}

TEST(Lora, RefusesWhatWouldTrainNothing) {
  const auto invalid = [](const Json& lora, const Json& more = Json::object()) {
    return test::message_of<ConfigError>([&] {
      Json json = more;
      json["lora"] = lora;
      TrainOptions options;
      read_fields(json, "train", options);
      options.validate("train");
    });
  };
  EXPECT_EQ(invalid({{"rank", 0}}), "train.lora.rank = 0: must be at least 1; without adapters leave out train.lora");
  EXPECT_THAT(invalid({{"alpha", 0}}), HasSubstr("train.lora.alpha = 0: must be a positive number"));
  EXPECT_THAT(invalid({{"maps", "("}}), HasSubstr("train.lora.maps = (: no regular expression"));
  EXPECT_THAT(invalid({{"save", "besides"}}), HasSubstr("did you mean 'beside'"));
  EXPECT_THAT(invalid(Json::object(), {{"trainable", "attention"}}),
              HasSubstr("train.trainable = attention: with train.lora adapters alone are trained"));
  Decoder decoder = lora_source();
  const auto refusal = [&](const LoraOptions& options) {
    return test::message_of<ConfigError>([&] { check_lora(decoder.spec(), options, "train.lora"); });
  };
  EXPECT_THAT(refusal({4, 8, "lm_head", LoraSave::kMerged}),
              HasSubstr("train.lora.maps: 'lm_head' matches no linear map of a layer; known: all, attention"));
  add_adapters(decoder, {4, 8, "q_proj", LoraSave::kBeside}, 1, "train.lora");
  EXPECT_THAT(refusal({4, 8, "attention", LoraSave::kBeside}),
              HasSubstr("model.layers.0.self_attn.q_proj is held as LoRA adapters of rank 4 beside dense weights: "
                        "merge those first (the pass merge_adapters)"));
}

TEST(Lora, NamesChooseMaps) {
  const auto count = [](const std::string& maps) {
    Decoder decoder = lora_source();
    add_adapters(decoder, {2, 4, maps, LoraSave::kMerged}, 1, "lora");
    return model_storage(decoder.spec()).size();
  };
  EXPECT_EQ(count("all"), 14u);
  EXPECT_EQ(count("attention"), 8u);
  EXPECT_EQ(count("feed_forward"), 6u);
  EXPECT_EQ(count("1\\.self_attn\\.[qv]_proj"), 2u);
}

TEST(Lora, NamesOfFusedMatricesChooseTheirParts) {
  const auto count = [](const std::string& maps, const std::string& family) {
    ModelSpec spec = test::tiny_spec("biases");
    spec.family = family;
    return adapter_elements(spec, {1, 1, maps, LoraSave::kMerged});
  };
  for (const auto& [fused, parts] : {std::pair{"qkv_proj", "[qkv]_proj"}, std::pair{"gate_up_proj", "(gate|up)_proj"},
                                     std::pair{"1\\.self_attn\\.qkv_proj$", "1\\.self_attn\\.[qkv]_proj"},
                                     std::pair{"qkv_proj|down_proj", "[qkv]_proj|down_proj"}}) {
    EXPECT_EQ(count(fused, "phi3"), count(parts, "phi3")) << fused;
    EXPECT_GT(count(parts, "phi3"), 0) << parts;
  }
  EXPECT_LT(count("up_proj", "phi3"), count("gate_up_proj", "phi3")) << "up_proj alone, not all that holds its name";
  EXPECT_EQ(count("qkv_proj", "llama"), 0) << "its files have no such matrix";
}

}  // namespace
}  // namespace mla
