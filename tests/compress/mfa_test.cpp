// One shared key/value head instead of a model's KV heads: what is exact, what it costs, and what makes no sense.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/grouped_query.h"
#include "core/base/registry.h"
#include "core/compress/layers/shared_head.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/pass_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::refusal_of;
using testing::HasSubstr;

constexpr double kSameAsSource = 1e-9, kSameProduct = 1e-10;

Json mfa(const Json& more = Json::object()) {
  Json config = {{"name", "mfa"}};
  config.update(more);
  return config;
}

Json mfa_kr(const Json& more = Json::object()) {
  Json config = mfa(more);
  config["name"] = "mfa_kr";
  return config;
}

class SharedHeadPasses : public testing::TestWithParam<std::string> {
 protected:
  SharedHeadPasses() : source(test::tiny_decoder(test::tiny_spec(GetParam()))) {
    ids = test::random_ids(source.spec(), 2, 14);
    rows = test::random_rows(source.spec(), 6, 20);
    heads = *source.spec().attention(0).heads();
  }
  Decoder after(const Json& config, PassReport* report = nullptr) const {
    return test::after_pass(source, config, rows, report);
  }
  void expect_source(const Json& config) const {
    SCOPED_TRACE(config.dump());
    const Decoder decoder = after(config);
    EXPECT_EQ(decoder.spec().attention(0).kind(), "mfa");
    EXPECT_LT(test::largest_difference(decoder.forward(ids), source.forward(ids)), kSameAsSource);
    test::expect_whole(decoder, GetParam(), ids);
  }
  /// Calls `change(head, rows)` for each KV head's rows of key and value matrices and biases.
  void change_heads(const std::function<void(const std::string&, at::Tensor&)>& change) {
    source.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
      if (name.find(".k_proj.") != std::string::npos || name.find(".v_proj.") != std::string::npos)
        change(name, tensor);
    });
  }
  void make_heads_alike() {
    change_heads([&](const std::string&, at::Tensor& tensor) {
      const at::Tensor first = tensor.narrow(0, 0, heads.head_dim).clone();
      for (std::int64_t head = 1; head < heads.kv_heads; ++head)
        tensor.narrow(0, head * heads.head_dim, heads.head_dim).copy_(first);
    });
  }

  Decoder source;
  at::Tensor ids;
  TokenRowList rows;
  HeadFields heads;
  at::NoGradGuard no_grad;
};

TEST_P(SharedHeadPasses, AllKvHeadsTogetherAreTheSourceModel) {
  const std::int64_t all = heads.kv_heads * heads.head_dim;
  expect_source(mfa());
  expect_source(mfa({{"width", all}, {"metric", "weights"}}));
  expect_source(mfa({{"width", {all, all}}}));
  expect_source(mfa_kr());
  expect_source(mfa_kr({{"width", 2 * all}, {"metric", "weights"}}));
  expect_source(mfa_kr({{"width", 2 * all}, {"key_width", all}}));
}

TEST_P(SharedHeadPasses, QueriesOfFullRankAreTheSourceModel) {
  const std::int64_t all = heads.kv_heads * heads.head_dim, hidden = source.spec().hidden;
  for (const char* metric : {"outputs", "weights"}) {
    expect_source(mfa({{"query_rank", std::min(hidden, heads.heads * all)}, {"metric", metric}}));
    // No more than the source's queries have.
    expect_source(mfa_kr({{"query_rank", std::min(hidden, heads.heads * heads.head_dim)}, {"metric", metric}}));
  }
}

TEST_P(SharedHeadPasses, HeadsThatAreAlikeBecomeOneWithoutLoss) {
  make_heads_alike();
  for (const char* metric : {"outputs", "weights"}) {
    expect_source(mfa({{"width", heads.head_dim}, {"metric", metric}}));
    expect_source(mfa_kr({{"width", 2 * heads.head_dim}, {"metric", metric}}));
  }
}

TEST_P(SharedHeadPasses, ValuesThatFollowFromKeysNeedNothingElse) {
  // Values of each layer are a linear map of its keys, as in a model that reuses them.
  at::Tensor keys;
  change_heads([&](const std::string& name, at::Tensor& tensor) {
    if (name.find(".k_proj.") != std::string::npos) {
      // Weight and bias one after the other; of a layer with both the bias comes second.
      keys = keys.defined() && tensor.dim() == 1 ? at::cat({keys, tensor.unsqueeze(1)}, 1) : tensor;
      return;
    }
    const at::Tensor map = at::arange(keys.size(0) * keys.size(0), at::kDouble).sin().view({keys.size(0), -1});
    const at::Tensor made = at::mm(map, keys);
    tensor.copy_(tensor.dim() == 1 ? made.select(1, made.size(1) - 1) : made.narrow(1, 0, tensor.size(1)));
  });
  const std::int64_t all = heads.kv_heads * heads.head_dim;
  expect_source(mfa_kr({{"width", all}, {"key_width", all}}));
}

TEST_P(SharedHeadPasses, CachesWhatIsAskedFor) {
  const std::int64_t layers = source.spec().layer_count();
  struct Asked {
    Json pass;
    std::int64_t elements;
  };
  for (const auto& [pass, elements] :
       {Asked{mfa({{"width", 10}}), 20}, Asked{mfa({{"width", 6}, {"value_width", 9}, {"query_rank", 7}}), 15},
        Asked{mfa({{"width", 4}, {"metric", "weights"}}), 8}, Asked{mfa_kr({{"width", 14}}), 14},
        Asked{mfa_kr({{"width", 12}, {"key_width", 4}, {"query_rank", 5}}), 12}}) {
    SCOPED_TRACE(pass.dump());
    const Decoder decoder = after(pass);
    EXPECT_EQ(cached_elements(decoder.spec()), layers * elements);
    test::expect_whole(decoder, GetParam(), ids);
  }
  const Decoder by_layer = after(mfa({{"width", {4, 12}}}));
  EXPECT_EQ(cached_elements(by_layer.spec().attention(0)), 8);
  EXPECT_EQ(cached_elements(by_layer.spec().attention(1)), 24);
}

TEST_P(SharedHeadPasses, WiderLosesLess) {
  for (const Json& way : {Json{{"metric", "outputs"}}, Json{{"metric", "weights"}}}) {
    double key = 1, value = 1, reused = 1;
    for (const std::int64_t width : {2, 6, 10, 14}) {
      PassReport report, reuse;
      Json more = way;
      more["width"] = width;
      after(mfa(more), &report);
      after(mfa_kr(more), &reuse);
      EXPECT_LT(report.layers[0].error.key, key);
      EXPECT_LT(report.layers[0].error.value, value);
      EXPECT_LE(reuse.layers[0].error.value, reused);
      // What the key's own pairs tell of values comes for nothing.
      EXPECT_LT(reuse.layers[0].error.value, 1);
      key = report.layers[0].error.key;
      value = report.layers[0].error.value;
      reused = reuse.layers[0].error.value;
    }
    EXPECT_GT(key, 0);
    EXPECT_GT(value, 0);
  }
}

std::vector<std::string> kinds_without_norms() {
  std::vector<std::string> kinds = test::tiny_kinds();
  std::erase(kinds, "qk_norm");
  return kinds;
}

INSTANTIATE_TEST_SUITE_P(Kinds, SharedHeadPasses, testing::ValuesIn(kinds_without_norms()),
                         [](const auto& kind) { return kind.param; });

/// What is lost by the key's measure is what logits differ by, on average over the angle between query and key.
TEST(SharedKey, LosesTheLogitsThatItSaysItLoses) {
  const at::NoGradGuard no_grad;
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("mha"));
  const BiasedWeights source = biased_weights(*as_grouped_query(*decoder.layers[0].attention));
  const HeadFields& heads = source.heads;
  const at::Tensor moment = equal_moment(decoder.spec().hidden);
  const SharedKey key = shared_key(source, moment, 7);
  // E over independent x, y and a common angle t of |Re(e^it sum conj(q) (k - k'))|^2 is half of sum |q|^2 |k - k'|^2,
  // by the trace: rows of queries and keys as complex numbers, whole and shared.
  const auto complex = [](const at::Tensor& rows, std::int64_t count) {
    const at::Tensor halves = rows.view({count, 2, -1, rows.size(1)});
    return at::complex(halves.select(1, 0).contiguous(), halves.select(1, 1).contiguous());
  };
  const at::Tensor queries = complex(source.query, heads.heads), keys = complex(source.key, heads.kv_heads);
  const at::Tensor shared_queries = complex(key.query, heads.heads), shared_keys = complex(key.key, 1)[0];
  double lost = 0;
  for (std::int64_t head = 0; head < heads.heads; ++head) {
    for (std::int64_t pair = 0; pair < heads.head_dim / 2; ++pair) {
      // Of this frequency: the form that takes x and y to the complex logit.
      at::Tensor form = at::outer(queries[head][pair].conj(), keys[head / heads.group()][pair]);
      for (std::size_t i = 0; i < key.pairs.size(); ++i) {
        const auto own = static_cast<std::int64_t>(i);
        if (key.pairs[i] == pair) form = form - at::outer(shared_queries[head][own].conj(), shared_keys[own]);
      }
      lost += form.abs().square().sum().item<double>();
    }
  }
  EXPECT_NEAR(lost / key.keys.lost, 1, kSameProduct);
  EXPECT_GT(key.keys.lost / key.keys.all, 0.01);
}

/// Halfway by ratio between the key's size and that of values; the logits stay.
TEST(ReusedKey, IsAsLargeAsKeysAndValuesAllow) {
  const at::NoGradGuard no_grad;
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("mha"));
  BiasedWeights source = biased_weights(*as_grouped_query(*decoder.layers[0].attention));
  source.key = source.key * 30;
  const at::Tensor moment = equal_moment(decoder.spec().hidden);
  const SharedKey key = shared_key(source, moment, 4);
  const ReusedKey reused = reused_key(source, moment, key, 12, 0);
  const double values = source.value.square().sum(1).mean().sqrt().item<double>();
  const std::int64_t heads = source.heads.heads, inputs = source.key.size(1);
  const at::Tensor queries = key.query.view({heads, 2, 4, inputs}), scaled = reused.query.view({heads, 2, 6, inputs});
  for (std::int64_t pair = 0; pair < 4; ++pair) {
    const double before = std::sqrt(key.energy[pair].item<double>() / 2);
    const double after = std::sqrt(reused.energy[pair].item<double>() / 2);
    EXPECT_NEAR(after * after / (before * values), 1, kSameProduct) << pair;
    const at::Tensor rows = reused.key.view({2, 6, inputs}).select(1, pair);
    EXPECT_NEAR(std::sqrt(rows.square().sum().item<double>() / 2) / after, 1, kSameProduct) << pair;
    const at::Tensor wanted =
        at::einsum("hpi,pj->hij", {queries.select(2, pair), key.key.view({2, 4, inputs}).select(1, pair)});
    const at::Tensor found = at::einsum("hpi,pj->hij", {scaled.select(2, pair), rows});
    EXPECT_LT((found - wanted).norm().item<double>(), kSameProduct * wanted.norm().item<double>()) << pair;
  }
}

TEST(MfaPass, RefusesWhatMakesNoSense) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");
  EXPECT_EQ(refusal_of(mfa({{"width", 7}}), spec),
            "compress[0].width = 7: must be even, from 2 to 16 (the KV heads of layer 0 together); 0: its default");
  EXPECT_THAT(refusal_of(mfa({{"width", 18}}), spec), HasSubstr("compress[0].width = 18: must be even, from 2 to 16"));
  EXPECT_THAT(refusal_of(mfa({{"width", {4, 4}}}), spec), HasSubstr("compress[0].width: a list of 2 values"));
  EXPECT_THAT(refusal_of(mfa({{"value_width", 17}}), spec), HasSubstr("compress[0].value_width = 17: must be from 1"));
  EXPECT_EQ(refusal_of(mfa({{"query_rank", 33}}), spec),
            "compress[0].query_rank = 33: queries of 64 elements made of 32 have a rank of at most 32; 0: one matrix, "
            "exact");
  EXPECT_THAT(refusal_of(mfa({{"metric", "heads"}}), spec), HasSubstr("compress[0].metric"));
  EXPECT_THAT(refusal_of(mfa(), test::tiny_spec("qk_norm")), HasSubstr("QK-norm"));
  EXPECT_THAT(refusal_of(mfa(), test::spec_with_attention("latent")),
              HasSubstr("layer 0 is of kind latent; expected grouped_query"));
}

TEST(MfaKrPass, RefusesWhatMakesNoSense) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");
  EXPECT_EQ(refusal_of(mfa_kr({{"width", 34}}), spec),
            "compress[0].width = 34: must be even, from 2 to 32 (keys and values of layer 0 together); 0: its default");
  EXPECT_THAT(refusal_of(mfa_kr({{"width", 8}, {"key_width", 10}}), spec),
              HasSubstr("compress[0].key_width = 10: must be even, from 2 to 8"));
  EXPECT_EQ(refusal_of(mfa_kr({{"width", 30}, {"key_width", 2}}), spec),
            "compress[0].key_width = 2: leaves 28 elements of the width for values, which are 16 in layer 0");
  EXPECT_THAT(refusal_of(mfa_kr(), test::spec_with_attention("mfa")), HasSubstr("is of kind mfa"));
}

TEST(MfaKind, RefusesLayersThatCannotBe) {
  const ModelSpec spec = test::spec_with_attention("mfa");
  const auto refused = [&](const Json& more) {
    Json fields = spec.attention(0).fields();
    fields.update(more);
    fields["name"] = "mfa";
    const auto made = Registry<AttentionSpec>::instance().make(fields, "layer");
    return test::message_of<ConfigError>([&] { made->check(spec, "layer"); });
  };
  EXPECT_THAT(refused({{"key_width", 5}}), HasSubstr("layer.key_width = 5: must be even"));
  EXPECT_THAT(refused({{"key_width", 6}}), HasSubstr("the model's frequencies are those of width 8"));
  EXPECT_THAT(refused({{"pairs", {0, 1}}}), HasSubstr("layer.pairs: expected 4 of them, found 2"));
  EXPECT_THAT(refused({{"pairs", {0, 1, 2, 4}}}), HasSubstr("layer.pairs: 4: the model has pairs 0 to 3"));
  EXPECT_THAT(refused({{"query_rank", 0}}), HasSubstr("layer.query_norm: there is nothing to normalise"));
  EXPECT_THAT(refused({{"key_reuse", true}, {"value_width", 3}}), HasSubstr("layer.value_width = 3"));
  EXPECT_THAT(refused({{"qk_norm", true}}), HasSubstr("layer.qk_norm"));
}

/// Published sizes of a layer: H (3C + m C) + m C^2 parameters, 2C cached elements, C with key reuse (and N and alpha).
TEST(MfaKind, HasThePublishedSizes) {
  UniformModel uniform = test::tiny_model("mha");
  uniform.model.hidden = 2048;
  uniform.heads.heads = 26;
  uniform.heads.kv_heads = 1;
  uniform.heads.head_dim = uniform.model.rope_dim = 256;
  const ModelSpec frame = uniform.spec();
  for (const bool reuse : {false, true}) {
    Json fields = write_fields(uniform.heads);
    fields["name"] = "mfa";
    fields["query_rank"] = 256;
    fields["key_reuse"] = reuse;
    const auto spec = Registry<AttentionSpec>::instance().make(fields, "layer");
    spec->check(frame, "layer");
    const std::int64_t published = 2048 * (3 * 256 + 26 * 256) + 26 * 256 * 256;
    EXPECT_EQ(spec->parameter_count(frame), reuse ? published - 2048 * 256 + 256 * 256 + 256 : published);
    // 24 layers of the 7B model at 2 bytes: 24,576 and 12,288 bytes per token.
    EXPECT_EQ(24 * 2 * cached_elements(*spec), reuse ? 12288 : 24576);
  }
}

}  // namespace
}  // namespace mla
