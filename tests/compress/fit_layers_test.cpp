// Layers trained one by one to give what the source's layers give.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/base/hash.h"
#include "core/base/registry.h"
#include "core/compress/calibration/layer_walk.h"
#include "core/compress/pass.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kSameError = 1e-9;

std::unique_ptr<Pass> fit_pass(Json options) {
  options["name"] = "fit_layers";
  return Registry<Pass>::instance().make(options, "compress[1]");
}

TokenRowList rows_of_lengths(const ModelSpec& spec, const std::vector<std::int64_t>& lengths) {
  const at::Tensor ids = test::random_ids(spec, std::ssize(lengths), 24, 11);
  TokenRowList rows;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::int64_t* row = ids.const_data_ptr<std::int64_t>() + static_cast<std::int64_t>(i) * ids.size(1);
    rows.emplace_back(row, row + lengths[i]);
  }
  return rows;
}

bool is_attention(const std::string& name) { return name.find("self_attn") != std::string::npos; }

/// The same model with attention that is a little wrong.
Decoder perturbed(const Decoder& source) {
  Decoder decoder = source.clone();
  std::uint64_t seed = 100;
  decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (!is_attention(name)) return;
    const at::Tensor other = test::tiny_decoder(source.spec(), at::kDouble, ++seed).embedding.to_dense().flatten();
    const at::Tensor noise = other.repeat({tensor.numel() / other.numel() + 1}).narrow(0, 0, tensor.numel());
    tensor = tensor + 0.1 * noise.view(tensor.sizes()).to(tensor.scalar_type());
  });
  return decoder;
}

std::string bytes_hash(Decoder& decoder) {
  std::string bytes;
  decoder.visit_parameters([&](const std::string&, at::Tensor& tensor) {
    const at::Tensor flat = tensor.contiguous();
    bytes.append(static_cast<const char*>(flat.const_data_ptr()), flat.nbytes());
  });
  return hash_bytes(bytes);
}

/// By hand: the relative squared error of each layer's attention on these rows, given what the source's is given.
std::vector<double> errors_of(const Decoder& decoder, const Decoder& source, const TokenRowList& rows) {
  std::vector<double> all;
  for (LayerWalk walk(source, rows, {}); !walk.done();) {
    const Attention& attention = *decoder.layers[static_cast<std::size_t>(walk.layer())].attention;
    at::Tensor input;
    double different = 0, size = 0;
    walk.advance({Tap::kAttentionInput, Tap::kAttentionOutput}, [&](std::size_t, Tap tap, const at::Tensor& tensor) {
      if (tap == Tap::kAttentionInput) input = tensor;
      if (tap != Tap::kAttentionOutput) return;
      ForwardContext context = decoder.context(input.size(1));
      const at::Tensor found = attention.forward(input, context);
      different += (found - tensor).slice(1, 1).square().sum().item<double>();
      size += tensor.slice(1, 1).square().sum().item<double>();
    });
    all.push_back(different / size);
  }
  return all;
}

class FitLayers : public testing::Test {
 protected:
  void use(const ModelSpec& spec, const std::vector<std::int64_t>& lengths = std::vector<std::int64_t>(16, 20),
           at::ScalarType dtype = at::kDouble) {
    source = std::make_unique<Decoder>(test::tiny_decoder(spec, dtype));
    rows = rows_of_lengths(spec, lengths);
    inputs.rows = &rows;
    inputs.source = source.get();
  }
  PassReport fit(Decoder& decoder, const Json& options) const {
    return run_pass("fit_layers", *fit_pass(options), decoder, inputs);
  }

  std::unique_ptr<Decoder> source;
  TokenRowList rows;
  PassInputs inputs;
};

class FitsEveryKind : public FitLayers, public testing::WithParamInterface<std::string> {};

TEST_P(FitsEveryKind, BringsLayersNearerToTheSource) {
  use(test::spec_with_attention(GetParam()));
  const std::string before = bytes_hash(*source);
  Decoder decoder = perturbed(*source);
  const ModelSpec spec = decoder.spec();
  const PassReport report = fit(decoder, {{"steps", 60}, {"learning_rate", 1e-2}, {"held_out", 0}});
  EXPECT_EQ(decoder.spec(), spec);
  EXPECT_EQ(bytes_hash(*source), before) << "weights that were shared are the source's still";
  for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
    ASSERT_TRUE(report.layers[layer].fit);
    const LayerFitReport& fit = *report.layers[layer].fit;
    if (!spec.layers[layer].attention->reads().empty()) {
      EXPECT_EQ(fit.tokens, 0) << "what this layer gives is not a function of its input";
      continue;
    }
    EXPECT_TRUE(fit.kept) << "layer " << layer;
    EXPECT_LT(fit.after, 0.5 * fit.before) << "layer " << layer;
    EXPECT_EQ(fit.judged_on, "fitted");
    EXPECT_EQ(fit.rows, 16);
    EXPECT_EQ(fit.tokens, 60 * 8 * 20);
    EXPECT_EQ(fit.unique_tokens, 16 * 20);
  }
}
INSTANTIATE_TEST_SUITE_P(Kinds, FitsEveryKind, testing::ValuesIn(Registry<AttentionSpec>::instance().names()),
                         [](const auto& kind) { return kind.param; });

class FitsEveryModel : public FitLayers, public testing::WithParamInterface<std::string> {};

TEST_P(FitsEveryModel, AfterAConversionAndByErrorsThatHold) {
  use(test::tiny_spec(GetParam()));
  const bool qk_norm = source->spec().attention(0).heads()->qk_norm;
  const auto convert =
      Registry<Pass>::instance().make({{"name", "mha2mla"},
                                       {"rope", {{"name", "high"}, {"pairs", 1}}},
                                       {"low_rank", {{"name", qk_norm ? "value_svd" : "joint_svd"}, {"d_kv", 3}}}},
                                      "compress[0]");
  Decoder decoder = source->clone();
  run_pass("mha2mla", *convert, decoder, inputs);
  const TokenRowList held = {rows[7], rows[15]};
  const std::vector<double> far = errors_of(decoder, *source, held);
  const PassReport report = fit(decoder, {{"steps", 40}, {"learning_rate", 1e-2}});
  const std::vector<double> near = errors_of(decoder, *source, held);
  int improved = 0;
  for (std::size_t layer = 0; layer < near.size(); ++layer) {
    const LayerFitReport& fit = *report.layers[layer].fit;
    EXPECT_EQ(fit.judged_on, "held_out");
    EXPECT_EQ(fit.rows, 2);
    EXPECT_EQ(fit.unique_tokens, 14 * 20);
    EXPECT_NEAR(fit.before, far[layer], kSameError);
    EXPECT_NEAR(fit.after, near[layer], kSameError);
    // Random rows tell little of each other: what was fitted may be no better on others, and is then not taken.
    EXPECT_EQ(near[layer] < far[layer], fit.kept);
    EXPECT_LE(near[layer], far[layer]);
    improved += fit.kept ? 1 : 0;
  }
  EXPECT_GT(improved, 0);
}
INSTANTIATE_TEST_SUITE_P(Kinds, FitsEveryModel, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST_F(FitLayers, LeaveTheSourceItselfAlone) {
  use(test::tiny_spec("gqa"));
  Decoder decoder = source->clone();
  const std::string before = bytes_hash(decoder);
  const PassReport report = fit(decoder, {{"steps", 5}});
  EXPECT_EQ(bytes_hash(decoder), before);
  EXPECT_EQ(report.layers[0].fit->tokens, 0);
  EXPECT_FALSE(report.layers[0].fit->kept);
}

TEST_F(FitLayers, AreLeftAsTheyWereWhereTheyWouldBecomeWorse) {
  use(test::tiny_spec("gqa"));
  Decoder decoder = perturbed(*source);
  const std::string before = bytes_hash(decoder);
  for (const double held_out : {0.125, 0.0}) {
    const PassReport report = fit(decoder, {{"steps", 5}, {"learning_rate", 1e3}, {"held_out", held_out}});
    EXPECT_EQ(bytes_hash(decoder), before);
    EXPECT_FALSE(report.layers[1].fit->kept);
    EXPECT_EQ(report.layers[1].fit->after, report.layers[1].fit->before);
    EXPECT_EQ(report.layers[1].fit->tokens, 5 * 8 * 20) << "what was tried is counted";
  }
}

TEST_F(FitLayers, GiveTheSameBytesWithAnyNumberOfThreads) {
  use(test::tiny_spec("gqa"), {20, 24, 20, 17, 20, 24, 17, 20, 20}, at::kFloat);
  const auto fitted = [&](const Json& options, int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    Decoder decoder = perturbed(*source);
    fit(decoder, options);
    at::set_num_threads(before);
    return bytes_hash(decoder);
  };
  const Json options = {{"steps", 7}, {"batch_rows", 3}};
  const std::string once = fitted(options, 1);
  EXPECT_EQ(fitted(options, 1), once);
  EXPECT_EQ(fitted(options, 2), once);
  EXPECT_NE(fitted({{"steps", 7}, {"batch_rows", 3}, {"seed", 43}}, 1), once);
}

TEST_F(FitLayers, RowsOfAllLengthsCountByTheirTokens) {
  const std::vector<std::int64_t> lengths = {20, 24, 20, 7, 20, 24, 1, 20, 20};
  use(test::tiny_spec("gqa"), lengths);
  Decoder decoder = perturbed(*source);
  TokenRowList used;
  for (const auto& row : rows) {
    if (row.size() > 1) used.push_back(row);  // nothing is wanted of a first token
  }
  const std::vector<double> far = errors_of(decoder, *source, used);
  // As many rows as there are in every step: their order does not matter, and all are seen.
  const PassReport report = fit(decoder, {{"steps", 10}, {"batch_rows", 8}, {"held_out", 0}});
  EXPECT_NEAR(report.layers[0].fit->before, far[0], kSameError);
  EXPECT_NEAR(report.layers[0].fit->after, errors_of(decoder, *source, used)[0], kSameError);
  EXPECT_EQ(report.layers[0].fit->rows, 8);
  EXPECT_EQ(report.layers[0].fit->tokens, 10 * (5 * 20 + 2 * 24 + 7));
  Decoder other = perturbed(*source);
  fit(other, {{"steps", 10}, {"batch_rows", 8}, {"held_out", 0}, {"seed", 1}});
  const at::Tensor ids = test::random_ids(source->spec(), 2, 20);
  EXPECT_LT(test::largest_difference(decoder.forward(ids), other.forward(ids)), 1e-10);
}

TEST_F(FitLayers, MayBeGivenWhatTheLayersBeforeLetThrough) {
  use(test::tiny_spec("gqa"));
  const auto layer_hash = [](const Decoder& decoder, std::size_t layer) {
    std::string bytes;
    decoder.layers[layer].attention->clone()->visit_parameters([&](const std::string&, at::Tensor& tensor) {
      bytes.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
    });
    return hash_bytes(bytes);
  };
  Decoder by_source = perturbed(*source), by_converted = perturbed(*source);
  fit(by_source, {{"steps", 10}});
  const PassReport report = fit(by_converted, {{"steps", 10}, {"inputs", "converted"}});
  EXPECT_EQ(layer_hash(by_source, 0), layer_hash(by_converted, 0)) << "no layer before the first one is converted";
  EXPECT_NE(layer_hash(by_source, 1), layer_hash(by_converted, 1));
  EXPECT_LT(report.layers[1].fit->after, report.layers[1].fit->before);
}

TEST_F(FitLayers, WithinMklaAreTheSameStepsInOrder) {
  use(test::tiny_spec("gqa"));
  const auto pass = [](Json config, const char* name) {
    config["name"] = name;
    return Registry<Pass>::instance().make(config, "compress[0]");
  };
  const Json options = {{"steps", 5}, {"batch_rows", 3}};
  Decoder at_once = source->clone(), one_by_one = source->clone();
  const PassReport report = run_pass("mkla", *pass({{"cached", 8}, {"fit", options}}, "mkla"), at_once, inputs);
  run_pass("mkla", *pass({{"cached", 8}, {"refit", false}}, "mkla"), one_by_one, inputs);
  const PassReport fitted = fit(one_by_one, options);
  run_pass("refit_output", *pass(Json::object(), "refit_output"), one_by_one, inputs);
  EXPECT_EQ(bytes_hash(at_once), bytes_hash(one_by_one));
  EXPECT_EQ(report.layers[1].fit->after, fitted.layers[1].fit->after);
  EXPECT_EQ(test::message_of<ConfigError>([&] {
              pass({{"fit", {{"steps", 0}}}}, "mkla");
            }),
            "compress[0].fit.steps: 0 is less than 1");
}

TEST_F(FitLayers, KeepTheTypesThatWeightsAreHeldIn) {
  use(test::tiny_spec("gqa"));
  Decoder decoder = perturbed(*source);
  decoder.visit_parameters([](const std::string& name, at::Tensor& tensor) {
    if (is_attention(name)) tensor = tensor.to(at::kBFloat16);
  });
  EXPECT_TRUE(fit(decoder, {{"steps", 20}, {"learning_rate", 1e-2}}).layers[0].fit->kept);
  decoder.visit_parameters([](const std::string& name, at::Tensor& tensor) {
    EXPECT_FALSE(tensor.requires_grad()) << name;
    if (is_attention(name)) {
      EXPECT_EQ(tensor.scalar_type(), at::kBFloat16) << name;
    }
  });
}

TEST_F(FitLayers, RefuseWhatTheyCannotDo) {
  use(test::tiny_spec("gqa"));
  Decoder decoder = source->clone();
  decoder.remove_layers({1});
  EXPECT_EQ(test::message_of<ConfigError>([&] {
              fit(decoder, {{"steps", 1}});
            }),
            "compress[1]: the model has 1 layers and its source 2; layers are fitted one to one");
  const auto refusal = [](const Json& options) { return test::message_of<ConfigError>([&] { fit_pass(options); }); };
  EXPECT_EQ(refusal({{"steps", 0}}), "compress[1].steps: 0 is less than 1");
  EXPECT_EQ(refusal({{"learning_rate", 0}}), "compress[1].learning_rate = 0: must be more than 0");
  EXPECT_EQ(refusal({{"held_out", 1}}), "compress[1].held_out = 1: must be from 0 to less than 1");
  EXPECT_EQ(refusal({{"skip_positions", -1}}), "compress[1].skip_positions = -1: must not be negative");
  EXPECT_EQ(refusal({{"rows", -1}}), "compress[1].rows = -1: must not be negative");
  EXPECT_THAT(refusal({{"inputs", "mine"}}), testing::HasSubstr("source"));
  Decoder packed = source->clone();
  run_pass("quantize_weights",
           *Registry<Pass>::instance().make({{"name", "quantize_weights"}, {"codec", {{"name", "rtn"}, {"bits", 8}}}},
                                            "compress[0]"),
           packed, inputs);
  EXPECT_THAT(test::message_of<ConfigError>([&] {
                fit_pass({{"steps", 1}})->plan(packed.spec());
              }),
              testing::AllOf(testing::HasSubstr("compress[1]: model.layers.0.self_attn.q_proj.weight is held as"),
                             testing::HasSubstr("list fit_layers before quantize_weights")));
}

}  // namespace
}  // namespace mla
