// Weights as codes: what is computed with them, what is stored, and where such models may go.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/packed_weights.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/model/family.h"
#include "core/model/model_config.h"
#include "core/model/pool_heads.h"
#include "core/model/weight_files.h"
#include "core/train/trainable.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

/// Of logits, whole and step by step, beside the largest of them.
constexpr double same_packed_steps(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-13 : 1e-5; }

const Json kEveryLinearMap = {"attention", "feed_forward", "embedding", "output"};

std::unique_ptr<Pass> weights_pass(const Json& config) {
  return Registry<Pass>::instance().make(config, "compress[0]");
}

Json quantized_by(const Json& codec, const Json& maps = {"attention", "feed_forward"}) {
  return {{"name", "quantize_weights"}, {"codec", codec}, {"maps", maps}};
}

Json rtn_groups(int bits) { return {{"name", "rtn"}, {"bits", bits}, {"group_size", 8}}; }

PassReport run_alone(Decoder& decoder, const Json& config) {
  PassInputs inputs;
  inputs.arithmetic = decoder.compute_dtype;
  return run_pass(config.at("name").get<std::string>(), *weights_pass(config), decoder, inputs);
}

Json conversion_of(const ModelSpec& spec) {
  const bool qk_norm = spec.attention(0).heads()->qk_norm;
  return {{"name", "mha2mla"},
          {"rope", {{"name", "high"}, {"pairs", 1}}},
          {"low_rank", {{"name", qk_norm ? "value_svd" : "joint_svd"}, {"d_kv", 8}}}};
}

/// The same model with every matrix dense, holding the numbers that its codes stand for.
Decoder dense_twin(const Decoder& packed) {
  Decoder twin = packed.clone();
  twin.replace_maps([&](const std::string&, Linear& map) {
    if (map.storage()) map = Linear(map.to_dense().to(twin.compute_dtype), map.bias());
  });
  return twin;
}

/// Logits of the last position after 6 tokens at once and after each of the others.
std::vector<at::Tensor> step_by_step(const Decoder& decoder, const at::Tensor& ids, DecodePath path) {
  DecoderCache cache = decoder.make_cache(ids.size(0));
  std::vector<at::Tensor> logits = {decoder.forward_cached(ids.narrow(1, 0, 6), cache, path)};
  for (std::int64_t t = 6; t < ids.size(1); ++t)
    logits.push_back(decoder.forward_cached(ids.narrow(1, t, 1), cache, path));
  return logits;
}

/// A kind of tiny model, the bits of its weights, and whether it is converted before.
class QuantizedModel : public testing::TestWithParam<std::tuple<std::string, int, bool>> {
 protected:
  Decoder make(at::ScalarType dtype) const {
    const auto& [kind, bits, converted] = GetParam();
    Decoder decoder = test::tiny_decoder(test::tiny_spec(kind), dtype);
    if (converted) run_alone(decoder, conversion_of(decoder.spec()));
    run_alone(decoder, quantized_by(rtn_groups(bits), kEveryLinearMap));
    return decoder;
  }
  at::Tensor ids = test::random_ids(test::tiny_spec("gqa"), 2, 12);
};

TEST_P(QuantizedModel, ComputesWhatItsDequantizedTwinComputes) {
  const at::NoGradGuard no_grad;
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const Decoder packed = make(dtype), twin = dense_twin(packed);
    ASSERT_FALSE(model_storage(packed.spec()).empty());
    ASSERT_TRUE(model_storage(twin.spec()).empty());
    EXPECT_TRUE(at::equal(packed.forward(ids), twin.forward(ids)));
    // Few tokens take other kernels.
    const at::Tensor few = ids.narrow(1, 0, 3);
    EXPECT_TRUE(at::equal(packed.forward(few), twin.forward(few)));
    for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
      const auto found = step_by_step(packed, ids, path), expected = step_by_step(twin, ids, path);
      for (std::size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(at::equal(found[i], expected[i])) << i;
    }
  }
}

TEST_P(QuantizedModel, CachedIsUncached) {
  const at::NoGradGuard no_grad;
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    Decoder packed = make(dtype);
    const at::Tensor whole = packed.forward(ids);
    const double bound = same_packed_steps(dtype) * whole.abs().max().item<double>();
    packed.prepare_decode();
    for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
      const auto found = step_by_step(packed, ids, path);
      for (std::size_t i = 0; i < found.size(); ++i) {
        const at::Tensor expected = whole.select(1, 5 + static_cast<std::int64_t>(i));
        EXPECT_LT(test::largest_difference(found[i], expected), bound) << dtype << " " << i;
      }
    }
  }
}

TEST_P(QuantizedModel, HoldsTheBytesThatItsDescriptionPredicts) {
  const Decoder packed = make(at::kFloat), twin = dense_twin(packed);
  EXPECT_EQ(packed.weight_bytes(), packed.predicted_weight_bytes());
  EXPECT_EQ(twin.weight_bytes(), 4 * twin.parameter_count());
  EXPECT_EQ(packed.parameter_count(), twin.parameter_count());
  // Of each element its bits, and of each group of 8 two float32; biases and norms as before.
  std::int64_t expected = twin.weight_bytes();
  for (const ModelParameter& parameter : model_parameters(packed.spec())) {
    if (!parameter.storage) continue;
    const std::int64_t elements = parameter.matrix().rows * parameter.matrix().columns;
    expected += elements * std::get<1>(GetParam()) / 8 + elements - 4 * elements;
  }
  EXPECT_EQ(packed.weight_bytes(), expected);
}

TEST_P(QuantizedModel, SavedAndLoadedIsTheSame) {
  const at::NoGradGuard no_grad;
  const test::TemporaryFolder folder;
  Checkpoint checkpoint = test::tiny_checkpoint(std::get<0>(GetParam()), at::kFloat);
  checkpoint.decoder = make(at::kFloat);
  save_checkpoint(checkpoint, folder.path());
  EXPECT_EQ(load_spec(folder.path()), checkpoint.decoder.spec());
  // As views of the file, too.
  for (const auto& dtype : {std::optional(at::kFloat), std::optional<at::ScalarType>()}) {
    const Checkpoint loaded = load_checkpoint(folder.path(), {.placement = {.storage = dtype}});
    EXPECT_EQ(loaded.decoder.spec(), checkpoint.decoder.spec());
    EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), checkpoint.decoder.forward(ids)));
    EXPECT_EQ(loaded.decoder.weight_bytes(), checkpoint.decoder.weight_bytes());
  }
  // Codes stay codes whatever the arithmetic.
  const Checkpoint wide = load_checkpoint(folder.path(), {.placement = Placement::in(at::kDouble)});
  EXPECT_TRUE(at::equal(wide.decoder.forward(ids), dense_twin(wide.decoder).forward(ids)));
}

INSTANTIATE_TEST_SUITE_P(Models, QuantizedModel,
                         testing::Combine(testing::ValuesIn(test::tiny_kinds()), testing::Values(8, 4),
                                          testing::Bool()),
                         [](const auto& one) {
                           return std::get<0>(one.param) + std::to_string(std::get<1>(one.param)) +
                                  (std::get<2>(one.param) ? "_latent" : "");
                         });

/// Codecs that hold weights, with options that fit the tiny models.
std::vector<Json> weight_codecs() {
  std::vector<Json> codecs;
  for (const int bits : {8, 4, 3, 2, 1}) {
    for (const Json& codec :
         {Json{{"name", "rtn"}}, Json{{"name", "rtn"}, {"per", "channel"}, {"group_size", 8}},
          Json{{"name", "rtn"}, {"dtype", "float16"}, {"group_size", 16}}, Json{{"name", "hqq"}, {"group_size", 16}},
          Json{{"name", "hqq"}, {"group_size", 64}, {"axis", 1}}, Json{{"name", "quanto"}, {"group_size", 32}},
          Json{{"name", "quanto"}, {"group_size", 8}, {"axis", -1}}, Json{{"name", "kivi"}, {"group_size", 8}},
          Json{{"name", "kivi"}, {"group_size", 8}, {"tensor", "V"}}}) {
      codecs.push_back(codec);
      codecs.back()["bits"] = bits;
    }
  }
  return codecs;
}

TEST(QuantizeWeights, EveryCodecWithoutCalibrationHoldsWeights) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids = test::random_ids(test::tiny_spec("biases"), 2, 5);
  for (const Json& codec : weight_codecs()) {
    SCOPED_TRACE(codec.dump());
    const test::TemporaryFolder folder;
    Checkpoint checkpoint = test::tiny_checkpoint("biases", at::kFloat);
    run_alone(checkpoint.decoder, quantized_by(codec));
    const at::Tensor logits = checkpoint.decoder.forward(ids);
    EXPECT_TRUE(at::equal(logits, dense_twin(checkpoint.decoder).forward(ids)));
    save_checkpoint(checkpoint, folder.path());
    const Checkpoint loaded = load_checkpoint(folder.path());
    EXPECT_EQ(loaded.decoder.spec(), checkpoint.decoder.spec());
    EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), logits));
  }
}

TEST(QuantizeWeights, MoreBitsAreCloserAndEachCodeIsTheNearest) {
  const at::NoGradGuard no_grad;
  const Decoder source = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const at::Tensor ids = test::random_ids(source.spec(), 2, 12), expected = source.forward(ids);
  double last = 1e9;
  for (const int bits : {2, 4, 8}) {
    Decoder packed = source.clone();
    run_alone(packed, quantized_by(rtn_groups(bits)));
    const double distance = test::largest_difference(packed.forward(ids), expected);
    EXPECT_LT(distance, last);
    EXPECT_GT(distance, 0);
    last = distance;
    const at::Tensor before = source.layers[0].up.to_dense().view({-1, 8}),
                     after = packed.layers[0].up.to_dense().view({-1, 8});
    const at::Tensor step = (before.amax(1) - before.amin(1)) / ((1 << bits) - 1);
    EXPECT_TRUE((after - before).abs().amax(1).le(0.5001 * step).all().item<bool>()) << bits;
  }
}

TEST(QuantizeWeights, PacksTheMapsThatAreNamed) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& [name, storage] : model_storage(decoder.spec())) all.push_back(name);
    return all;
  };
  run_alone(decoder, quantized_by(rtn_groups(4), {"feed_forward"}));
  EXPECT_THAT(names(), testing::ElementsAre("model.layers.0.mlp.down_proj", "model.layers.0.mlp.gate_proj",
                                            "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj",
                                            "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"));
  // A second pass packs what is left, and leaves what was packed.
  const at::Tensor before = decoder.layers[0].up.to_dense();
  run_alone(decoder, quantized_by(rtn_groups(8)));
  EXPECT_EQ(names().size(), 14u);
  EXPECT_TRUE(at::equal(decoder.layers[0].up.to_dense(), before));
  EXPECT_EQ(decoder.layers[0].up.storage()->description(), "4-bit rtn codes");
  EXPECT_EQ(model_storage(decoder.spec()).at("model.layers.1.self_attn.o_proj").form->description(), "8-bit rtn codes");
}

TEST(QuantizeWeights, APackedEmbeddingIsLookedUpByRows) {
  const at::NoGradGuard no_grad;
  for (const Json& codec : {rtn_groups(4), Json{{"name", "kivi"}, {"bits", 4}, {"group_size", 2}}}) {
    Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
    run_alone(decoder, quantized_by(codec, {"embedding"}));
    ASSERT_TRUE(decoder.embedding.storage());
    const at::Tensor ids = test::random_ids(decoder.spec(), 3, 7);
    EXPECT_TRUE(at::equal(decoder.embed(ids), at::embedding(decoder.embedding.to_dense(), ids)));
    EXPECT_TRUE(at::equal(decoder.forward(ids), dense_twin(decoder).forward(ids)));
  }
}

TEST(QuantizeWeights, RefusesWhatCannotBe) {
  const ModelSpec spec = test::tiny_spec("gqa");
  const auto refusal = [&](const Json& config) {
    return test::message_of<ConfigError>([&] { weights_pass(config)->plan(spec); });
  };
  EXPECT_EQ(refusal(quantized_by({{"name", "kvquant"}, {"bits", 4}})),
            "compress[0].codec.name = kvquant: leans on a calibration of what it encodes, and weights have none; "
            "others: rtn, quanto, hqq, kivi");
  EXPECT_THAT(refusal(quantized_by({{"name", "rtn"}, {"group_size", 12}})),
              testing::AllOf(HasSubstr("compress[0].codec.group_size = 12: does not divide"),
                             HasSubstr("; so of model.layers.0.self_attn.q_proj")));
  EXPECT_THAT(refusal(quantized_by({{"name", "rtm"}})), HasSubstr("did you mean 'rtn'"));
  EXPECT_THAT(refusal(quantized_by({{"name", "rtn"}, {"bits", 9}})), HasSubstr("compress[0].codec.bits = 9"));
  EXPECT_THAT(refusal(quantized_by(rtn_groups(4), Json::array())),
              HasSubstr("no dense linear map of the model is among them"));
  EXPECT_THAT(refusal(quantized_by(rtn_groups(4), {"norms"})), HasSubstr("compress[0].maps[0]"));
  ModelSpec tied = spec;
  tied.tied_embeddings = true;
  EXPECT_THAT(test::message_of<ConfigError>([&] { weights_pass(quantized_by(rtn_groups(4), {"output"}))->plan(tied); }),
              HasSubstr("; its output matrix is the embedding"));
  Decoder huge = test::tiny_decoder(spec, at::kDouble);
  huge.layers[1].down.to_dense()[3][2] = 1e300;
  EXPECT_THAT(test::message_of<DataError>([&] { run_alone(huge, quantized_by(rtn_groups(4))); }),
              HasSubstr("compress[0]: model.layers.1.mlp.down_proj: rtn: element [3, 2]"));
}

TEST(QuantizeWeights, ConversionsComeBefore) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  run_alone(decoder, quantized_by(rtn_groups(4)));
  const auto refusal = [&](const Json& config) {
    return test::message_of<ConfigError>([&] { weights_pass(config)->plan(decoder.spec()); });
  };
  const std::string told =
      "self_attn.k_proj of layer 0 is held as 4-bit rtn codes, and this pass computes with dense matrices: let it come "
      "before quantize_weights";
  EXPECT_EQ(refusal(conversion_of(decoder.spec())), "compress[0].rope: " + told);
  EXPECT_EQ(refusal({{"name", "partial_rope"}, {"rope", {{"name", "high"}, {"pairs", 1}}}}),
            "compress[0].rope: " + told);
  EXPECT_THAT(refusal({{"name", "share_attention"}, {"layers", {1}}}), HasSubstr("is held as 4-bit rtn codes"));
  EXPECT_THAT(refusal({{"name", "merge_layers"}, {"merge", {{{"layers", {0, 1}}}}}}),
              HasSubstr("is held as 4-bit rtn codes"));
  EXPECT_THAT(refusal(quantized_by(rtn_groups(4))), HasSubstr("no dense linear map"));
  // Layers may go, and conversions of dense attention beside packed feed-forward maps.
  run_alone(decoder, {{"name", "merge_layers"}, {"drop", {0}}});
  EXPECT_EQ(model_storage(decoder.spec()).size(), 7u);
  EXPECT_EQ(decoder.weight_bytes(), decoder.predicted_weight_bytes());
  Decoder partly = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  run_alone(partly, quantized_by(rtn_groups(4), {"feed_forward"}));
  run_alone(partly, conversion_of(partly.spec()));
  EXPECT_EQ(model_storage(partly.spec()).size(), 6u);
  run_alone(partly, quantized_by(rtn_groups(8)));
  EXPECT_EQ(partly.weight_bytes(), partly.predicted_weight_bytes());
}

TEST(QuantizeWeights, CodesAreNotTrainedAndOtherParametersAre) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("biases"), at::kFloat);
  run_alone(decoder, quantized_by(rtn_groups(8)));
  const auto refusal = [&](const char* selection) {
    return test::message_of<ConfigError>([&] { TrainableParameters(decoder, selection, "train.trainable"); });
  };
  EXPECT_EQ(
      refusal("all"),
      "train.trainable: 'all' matches model.layers.0.self_attn.q_proj.weight, which is held as 8-bit rtn codes and "
      "so not trained: train before quantize_weights, or name other parameters");
  EXPECT_THAT(refusal("mlp\\.up"), HasSubstr("matches model.layers.0.mlp.up_proj.weight"));
  const TrainableParameters parameters(decoder, "norm|bias", "train.trainable");
  decoder.forward(test::random_ids(decoder.spec(), 1, 6)).sum().backward();
  EXPECT_EQ(parameters.gradients().size(), parameters.named().size());
  EXPECT_GT(parameters.named().size(), 5u);
}

TEST(QuantizeWeights, ConfigStatesTheStorageAndIsReadStrictly) {
  Checkpoint checkpoint = test::tiny_checkpoint("gqa", at::kFloat);
  const Json dense = write_model_config(checkpoint.decoder.spec(), checkpoint.config, "config.json");
  EXPECT_FALSE(dense.contains("latent_attention"));
  run_alone(checkpoint.decoder, quantized_by(rtn_groups(4), {"feed_forward"}));
  const Json config = write_model_config(checkpoint.decoder.spec(), checkpoint.config, "config.json");
  EXPECT_EQ(config["model_type"], "mlaforge");
  EXPECT_EQ(config["latent_attention"]["format"], 3);
  EXPECT_EQ(config["latent_attention"]["weight_storage"].size(), 1u);
  EXPECT_EQ(config["latent_attention"]["weight_storage"][0]["name"], "packed");
  EXPECT_EQ(config["latent_attention"]["weight_storage"][0]["maps"].size(), 6u);
  EXPECT_EQ(read_model_config(config, "config.json"), checkpoint.decoder.spec());
  const auto refusal = [&](const std::function<void(Json & storage)>& change) {
    Json changed = config;
    change(changed["latent_attention"]["weight_storage"]);
    return test::message_of<DataError>([&] { read_model_config(changed, "config.json"); });
  };
  const std::string where = "config.json: latent_attention.weight_storage";
  EXPECT_EQ(refusal([](Json& s) { s = 5; }), where + ": expected a list, found an integer");
  EXPECT_EQ(refusal([](Json& s) { s[0].erase("maps"); }), where + "[0].maps: expected a list of names of linear maps");
  EXPECT_EQ(refusal([](Json& s) { s[0]["maps"] = {"lm_heat"}; }), where + ": lm_heat is no linear map of the model");
  EXPECT_THAT(refusal([](Json& s) { s[0]["name"] = "packet"; }), HasSubstr(where + "[0].name"));
  EXPECT_THAT(refusal([](Json& s) { s[0]["bits"] = 0; }), HasSubstr(where + "[0].bits = 0"));
  EXPECT_THAT(refusal([](Json& s) { s[0]["grouping"] = "offline"; }), HasSubstr("offline: not for weights"));
  EXPECT_THAT(refusal([](Json& s) { s[0]["form"] = "codebook"; }), HasSubstr("codebook: not for weights"));
  EXPECT_THAT(refusal([](Json& s) { s[0]["group_size"] = 7; }), HasSubstr("group_size = 7: does not divide"));
  EXPECT_THAT(refusal([](Json& s) { s[0]["other"] = 7; }), HasSubstr(where + "[0].other"));
}

TEST(QuantizeWeights, DamagedFilesAreRefusedInOneLine) {
  const test::TemporaryFolder folder;
  Checkpoint checkpoint = test::tiny_checkpoint("gqa", at::kFloat);
  run_alone(checkpoint.decoder, quantized_by(rtn_groups(4)));
  save_checkpoint(checkpoint, folder.path());
  const WeightMap good = read_safetensors(folder / kWeightsFile);
  const std::string name = "model.layers.1.mlp.up_proj";
  const auto refusal = [&](const std::function<void(WeightMap&)>& change) {
    WeightMap weights;
    for (const auto& [key, tensor] : good) weights[key] = tensor.clone();
    change(weights);
    write_safetensors(folder / kWeightsFile, {weights.begin(), weights.end()});
    return test::message_of<DataError>([&] { load_checkpoint(folder.path()); });
  };
  EXPECT_EQ(refusal([](WeightMap&) {}), "no error");
  EXPECT_THAT(refusal([&](WeightMap& w) { w.erase(name + ".codes"); }), HasSubstr(name + ".codes is missing"));
  EXPECT_THAT(refusal([&](WeightMap& w) { w.erase(name + ".zeros"); }), HasSubstr(name + ".zeros is missing"));
  EXPECT_THAT(refusal([&](WeightMap& w) { w[name + ".codes"] = w[name + ".codes"].to(at::kInt); }),
              HasSubstr(name + ".codes: expected Byte, found Int"));
  EXPECT_THAT(refusal([&](WeightMap& w) { w[name + ".scales"] = w[name + ".scales"].to(at::kHalf); }),
              HasSubstr(name + ".scales: expected Float, found Half"));
  EXPECT_THAT(refusal([&](WeightMap& w) { w[name + ".codes"] = w[name + ".codes"].narrow(1, 0, 5).clone(); }),
              HasSubstr(name + ".codes: expected shape"));
  EXPECT_THAT(refusal([&](WeightMap& w) { w[name + ".scales"][2][1] = NAN; }), HasSubstr(name + ": group [2, 1] of"));
  EXPECT_THAT(refusal([&](WeightMap& w) { w[name + ".scales"][2][1] = 3e38; }), HasSubstr(name + ": group [2, 1] of"));
  EXPECT_THAT(refusal([&](WeightMap& w) {
                w[name + ".weight"] = at::ones({2, 2});
              }),
              HasSubstr(name + ".weight has no place"));
}

TEST(QuantizeWeights, APackedModelCanBeTheBeginningOfANewOne) {
  const at::NoGradGuard no_grad;
  UniformModel fewer = test::tiny_model("gqa");
  fewer.heads.kv_heads = 1;
  Decoder source = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  run_alone(source, quantized_by(rtn_groups(8)));
  const at::Tensor ids = test::random_ids(source.spec(), 2, 5);
  EXPECT_TRUE(at::equal(pool_kv_heads(source, fewer.spec()).forward(ids),
                        pool_kv_heads(dense_twin(source), fewer.spec()).forward(ids)));
}

}  // namespace
}  // namespace mla
