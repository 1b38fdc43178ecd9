#include "core/evaluate/cached_perplexity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/grouped_query.h"
#include "core/base/registry.h"
#include "core/evaluate/cache_samples.h"
#include "core/evaluate/token_nll.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kExact = 1e-10;
constexpr double kFiniteDifference = 1e-6;

CacheFormat format_of(const Json& codec, StreamUpdate update = {}) {
  const std::shared_ptr<const Codec> made = Registry<Codec>::instance().make(codec, "codec");
  return [=](std::int64_t, const StreamShape& stream) -> StreamStorage {
    return {made->for_stream(stream.name, nullptr), update};
  };
}

std::vector<std::int32_t> sequence_of(const at::Tensor& ids) {
  const at::Tensor narrow = ids.to(at::kInt).contiguous();
  return {narrow.const_data_ptr<std::int32_t>(), narrow.const_data_ptr<std::int32_t>() + narrow.numel()};
}

TEST(CachedNll, APlainCacheChangesNothing) {
  for (const std::string& kind : test::tiny_kinds()) {
    SCOPED_TRACE(kind);
    const Decoder decoder = test::tiny_decoder(test::tiny_spec(kind));
    const at::Tensor ids = test::random_ids(decoder.spec(), 2, 24);
    const std::vector<std::int64_t> calls = {10, 5, 1, 1, 1, 5};
    DecoderCache cache = decoder.make_cache(2);
    EXPECT_LT(test::largest_difference(cached_nll(decoder, ids, cache, calls), token_nll(decoder, ids)), kExact);
  }
}

TEST(CachedNll, CodesAreReadAfterThePromptOnly) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const at::Tensor ids = test::random_ids(decoder.spec(), 1, 40);
  const std::vector<std::int64_t> calls = {30, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const at::Tensor exact = token_nll(decoder, ids).to(at::kDouble);
  DecoderCache cache =
      decoder.make_cache(1, format_of({{"name", "rtn"}, {"bits", 2}}, {UpdateRule::kAppendOnly, 4, 0}));
  const at::Tensor coarse = cached_nll(decoder, ids, cache, calls);
  EXPECT_LT(test::largest_difference(coarse.narrow(1, 0, 30), exact.narrow(1, 0, 30)), 1e-5);
  EXPECT_GT(test::largest_difference(coarse.narrow(1, 30, 9), exact.narrow(1, 30, 9)), 1e-3);
  EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
}

TEST(CachedPerplexity, CountsDecodedTokensAndStoredBits) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const std::vector<std::int32_t> text = sequence_of(test::random_ids(decoder.spec(), 1, 100));
  const CachedPerplexityOptions options{.context = 32, .prompt = 16, .batch = 2};
  const auto plain = cached_perplexity(decoder, {text}, options, {});
  EXPECT_EQ(plain.windows, 3);
  EXPECT_EQ(plain.scored_tokens, 3 * 15);
  EXPECT_EQ(plain.effective_bits, 32);
  double expected = 0;
  for (std::int64_t window = 0; window < 3; ++window) {
    const std::vector<std::int64_t> ids(text.begin() + window * 32, text.begin() + (window + 1) * 32);
    expected += token_nll(decoder, at::tensor(ids, at::kLong).unsqueeze(0)).narrow(1, 16, 15).sum().item<double>();
  }
  EXPECT_NEAR(plain.mean_nll, expected / 45, 1e-5);
  // 4 bits and a float32 scale and zero for each head's 8 elements of a token.
  const auto coded = cached_perplexity(decoder, {text}, options,
                                       format_of({{"name", "rtn"}, {"bits", 4}}, {UpdateRule::kAppendOnly, 0, 0}));
  EXPECT_DOUBLE_EQ(coded.effective_bits, 4 + 64.0 / 8);
  EXPECT_EQ(coded.bytes, coded.predicted_bytes);
  EXPECT_NE(coded.mean_nll, plain.mean_nll);
}

TEST(CachedPerplexity, DivergenceIsFromTheCacheAsComputed) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kDouble);
  const at::Tensor ids = test::random_ids(decoder.spec(), 1, 24);
  const CachedPerplexityOptions options{.context = 24, .prompt = 16, .divergence = true};
  for (const double kl : cached_perplexity(decoder, {sequence_of(ids)}, options, {}).kl) EXPECT_EQ(kl, 0);
  const CacheFormat format = format_of({{"name", "rtn"}, {"bits", 2}}, {UpdateRule::kAppendOnly, 0, 0});
  const auto coarse = cached_perplexity(decoder, {sequence_of(ids)}, options, format);
  ASSERT_EQ(coarse.kl.size(), coarse.nll.size());
  // The first decoded token's, by hand: -log p is a cross-entropy, so KL = sum p (log p - log q).
  const at::NoGradGuard no_grad;
  const auto log_probabilities = [&](DecoderCache cache) {
    decoder.hidden_states_cached(ids.narrow(1, 0, 16), cache);
    return decoder.logits(decoder.hidden_states_cached(ids.narrow(1, 16, 1), cache).flatten(0, 1)).log_softmax(1);
  };
  const at::Tensor p = log_probabilities(decoder.make_cache(1)), q = log_probabilities(decoder.make_cache(1, format));
  EXPECT_NEAR(coarse.kl[0], (p.exp() * (p - q)).sum().item<double>(), kExact);
  EXPECT_GT(coarse.kl[0], 1e-6);
  EXPECT_TRUE(cached_perplexity(decoder, {sequence_of(ids)}, {.context = 24, .prompt = 16}, {}).kl.empty());
}

TEST(CachedPerplexity, BatchesDoNotMatter) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("mha"), at::kDouble);
  const std::vector<std::int32_t> text = sequence_of(test::random_ids(decoder.spec(), 1, 130));
  const CacheFormat format = format_of({{"name", "hqq"}, {"bits", 3}}, {UpdateRule::kAppendOnly, 16, 0});
  CachedPerplexityOptions options{.context = 32, .prompt = 8, .batch = 1};
  const auto single = cached_perplexity(decoder, {text}, options, format);
  options.batch = 3;
  const auto batched = cached_perplexity(decoder, {text}, options, format);
  ASSERT_EQ(single.nll.size(), batched.nll.size());
  for (std::size_t i = 0; i < single.nll.size(); ++i) EXPECT_NEAR(single.nll[i], batched.nll[i], kExact);
}

TEST(CachedPerplexity, RefusesWhatCannotBe) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const auto message = [&](CachedPerplexityOptions options, std::size_t tokens) {
    try {
      cached_perplexity(decoder, {std::vector<std::int32_t>(tokens, 1)}, options, {});
    } catch (const std::runtime_error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message({.context = 32, .prompt = 31}, 100), testing::HasSubstr("leaves nothing to decode"));
  EXPECT_THAT(message({.context = 32, .prompt = 8}, 31), testing::HasSubstr("no text of at least context = 32"));
}

TEST(CacheSamples, HoldRowsAndSquaredGradients) {
  // The loss of two tokens is that of the first position, which sees the first token's value alone: its gradient is
  // that of the value projection's bias.
  Decoder decoder = test::tiny_decoder(test::tiny_spec("biases"));
  const at::Tensor ids = test::random_ids(decoder.spec(), 1, 2);
  const CacheSamples samples = sample_cache(decoder, {sequence_of(ids)}, {});
  const HeadFields heads = *decoder.spec().attention(0).heads();
  const std::int64_t width = heads.kv_heads * heads.head_dim;
  for (std::int64_t layer = 0; layer < decoder.spec().layer_count(); ++layer) {
    const StreamSample& sample = samples.at({layer, "value"});
    ASSERT_EQ(sample.values.sizes(), (at::IntArrayRef{2, width}));
    EXPECT_EQ(sample.fisher[1].abs().max().item<float>(), 0);
    decoder.layers[static_cast<std::size_t>(layer)].attention->visit_parameters([&](const std::string& name,
                                                                                    at::Tensor& bias) {
      if (name != "v_proj.bias") return;
      for (const std::int64_t channel : {std::int64_t{0}, width - 1}) {
        const auto loss = [&](double step) {
          const at::Tensor before = bias.clone();
          bias[channel] += step;
          const double value = token_nll(decoder, ids).item<double>();
          bias.copy_(before);
          return value;
        };
        const double gradient = (loss(kFiniteDifference) - loss(-kFiniteDifference)) / (2 * kFiniteDifference);
        EXPECT_NEAR(sample.fisher[0][channel].item<float>(), gradient * gradient, 1e-4 * gradient * gradient + 1e-12);
      }
    });
  }
}

TEST(CacheSamples, KeysAreTakenBeforeTheirRotation) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const at::Tensor ids = test::random_ids(decoder.spec(), 1, 12);
  const CacheSamples before = sample_cache(decoder, {sequence_of(ids)}, {});
  const CacheSamples after = sample_cache(decoder, {sequence_of(ids)}, {.before_rotation = false});
  at::Tensor wanted;
  const Observer observer{{Tap::kKey}, [&](Tap, std::int64_t layer, const at::Tensor& keys) {
                            if (layer == 0) wanted = keys.detach().squeeze(0).transpose(0, 1).flatten(1);
                          }};
  decoder.observe(ids, observer);
  const at::Tensor keys = before.at({0, "key"}).values;
  EXPECT_LT(test::largest_difference(keys, wanted), 1e-6);
  EXPECT_LT(test::largest_difference(keys[0], after.at({0, "key"}).values[0]), 1e-6);  // position 0 is not rotated
  EXPECT_GT(test::largest_difference(keys[5], after.at({0, "key"}).values[5]), 1e-3);
  // The model says the same either way.
  EXPECT_LT(test::largest_difference(before.at({1, "value"}).values, after.at({1, "value"}).values), 1e-5);
}

TEST(KvQuantCache, KeysRotatedWhenReadGiveTheModelsLikelihoods) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const at::Tensor ids = test::random_ids(decoder.spec(), 1, 60);
  const CacheSamples samples = sample_cache(decoder, {sequence_of(ids)}, {});
  const at::Tensor exact = token_nll(decoder, ids).to(at::kDouble).narrow(1, 0, 59);
  std::vector<std::int64_t> calls(30, 1);
  calls.front() = 30;
  const auto distance = [&](const Json& options) {
    const auto codec = Registry<Codec>::instance().make(options, "codec");
    const CacheFormat format = [&](std::int64_t layer, const StreamShape& stream) -> StreamStorage {
      return {codec->for_stream(stream.name, &samples.at({layer, stream.name})), {UpdateRule::kAppendOnly, 0, 1}};
    };
    DecoderCache cache = decoder.make_cache(1, format);
    return test::largest_difference(cached_nll(decoder, ids, cache, calls), exact);
  };
  // Uniform codes: a codebook weighted by so few gradients is coarse where they are small. This model feels every step
  // of a code; round-to-nearest of rotated keys at the same bits is the measure of what they cost.
  const double far = distance({{"name", "kvquant"}, {"bits", 8}, {"variant", "int1"}});
  EXPECT_LT(far, 2 * distance({{"name", "rtn"}, {"bits", 8}}));
  EXPECT_GT(far, 0);
}

}  // namespace
}  // namespace mla
