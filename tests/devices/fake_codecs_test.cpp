// Codecs of caches on the fake device: codes are made, kept and read there, to the bits of the host's kernels; nothing
// is copied or waited for in between, and what has no code is found when results are read.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "core/base/error.h"
#include "core/evaluate/cached_perplexity.h"
#include "core/evaluate/generate.h"
#include "core/evaluate/sound_cache.h"
#include "core/kv_cache/sound_cache.h"
#include "core/kv_cache/stream.h"
#include "core/ops/kernel_scope.h"
#include "core/quantize/limits.h"
#include "core/quantize/round_trip.h"
#include "tests/devices/fake_device.h"
#include "tests/support/codec_configs.h"
#include "tests/support/errors.h"
#include "tests/support/pass_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::device_counts;
using test::kFakeDevice;
using testing::HasSubstr;

constexpr std::int64_t kHeads = 2, kWidth = 32, kResidual = 16;
constexpr std::int64_t kSegment = 256;  // tokens after which outliers are counted

at::Tensor there(const at::Tensor& x) { return x.to(kFakeDevice); }
at::Tensor here(const at::Tensor& x) { return x.to(at::kCPU); }

test::DeviceCounts counts_of(const std::function<void()>& work) {
  const test::DeviceCounts before = device_counts();
  work();
  return device_counts() - before;
}

void expect_undisturbed(const test::DeviceCounts& counts, const std::string& what) {
  EXPECT_EQ(counts.waits, 0) << what;
  EXPECT_EQ(counts.copies_to_host, 0) << what;
  EXPECT_EQ(counts.copies_to_device, 0) << what;
}

/// [tokens, heads * width], some channels larger than others.
at::Tensor calibration_rows() { return at::randn({300, kHeads * kWidth}) * at::linspace(0.5, 2, kHeads * kWidth); }

Packed compact_on_host(const Packed& packed) {
  Packed whole = to_device(packed, at::kCPU);
  whole.sparse = compacted(whole.sparse);
  return whole;
}

TEST(FakeDeviceCodecs, EncodeAndDecodeThereToTheBitsOfTheHostsKernels) {
  const KernelScope kernels(true);
  const at::Tensor sample = calibration_rows();
  for (const test::CodecConfig& config : test::codec_configs({8, 4, 3, 2, 1})) {
    const auto codec = test::make_codec(config, sample);
    std::size_t number = 0;
    for (const at::Tensor& heads : test::hard_tensors()) {
      const std::string what = config.text() + ", tensor " + std::to_string(number++);
      const at::Tensor x = codec->joins_heads() ? heads.transpose(0, 1).flatten(1).unsqueeze(0) : heads;
      const Packed wanted = codec->encode(x);
      const at::Tensor x_there = there(x);
      if (number == 1) codec->encode(x_there);  // what was calibrated is copied once
      Packed found;
      at::Tensor decoded;
      expect_undisturbed(counts_of([&] {
                           found = codec->encode(x_there);
                           decoded = decode(found);
                         }),
                         what);
      for (const at::Tensor& part : {found.codes, found.scale, found.zero, decoded})
        EXPECT_EQ(part.device(), kFakeDevice) << what;
      expect_sound(found, "codec");
      test::expect_same_codes(compact_on_host(found), wanted, what);
      EXPECT_EQ(found.bytes(), wanted.bytes()) << what;
      EXPECT_TRUE(test::same_bits(here(decoded), decode(wanted))) << what;
    }
  }
}

TEST(FakeDeviceCodecs, RoundTripsHappenThere) {
  const KernelScope kernels(true);
  const at::Tensor sample = calibration_rows();
  for (const test::CodecConfig& config : test::codec_configs({4})) {
    const auto codec = test::make_codec(config, sample);
    const at::Tensor x = at::randn({2, kHeads, 64, kWidth});
    const RoundTrip wanted = round_trip(*codec, x), found = round_trip(*codec, there(x));
    EXPECT_EQ(found.decoded.device(), kFakeDevice);
    EXPECT_TRUE(test::same_bits(here(found.decoded), wanted.decoded)) << config.text();
    EXPECT_EQ(found.bytes, wanted.bytes) << config.text();
    EXPECT_EQ(found.report.error_trace, wanted.report.error_trace) << config.text();
    EXPECT_EQ(tensor_error(there(x), found.decoded).max_abs, tensor_error(x, wanted.decoded).max_abs);
    at::Tensor odd = x.clone();
    odd[1][0][40][3] = NAN;
    EXPECT_NE(test::message_of<DataError>([&] { round_trip(*codec, there(odd)); }), "no error") << config.text();
    if (codec->first_tokens() == 0) continue;
    odd = x.clone();
    odd[1][0][0][3] = 7e4;
    EXPECT_THAT(test::message_of<DataError>([&] { round_trip(*codec, there(odd)); }),
                HasSubstr("first tokens: element [1, 0, 3]"));
  }
}

/// A prompt, and tokens one by one until some of them are encoded in every codec.
TEST(FakeDeviceCodecs, SequencesGrowThereWithoutWaiting) {
  const KernelScope kernels(true);
  const at::Tensor sample = calibration_rows();
  for (const test::CodecConfig& config : test::codec_configs({4, 3})) {
    SCOPED_TRACE(config.text());
    const auto codec = test::make_codec(config, sample);
    QuantizedSequence wanted(codec, {UpdateRule::kAppendOnly, kResidual, 0}, kHeads, kWidth, at::kFloat),
        found(codec, {UpdateRule::kAppendOnly, kResidual, 0}, kHeads, kWidth, at::device(kFakeDevice));
    const at::Tensor rows = at::randn({kHeads, 100, kWidth}), rows_there = there(rows);
    const auto feed = [&](std::int64_t begin, std::int64_t count) {
      const at::Tensor seen = wanted.append(rows.narrow(1, begin, count));
      EXPECT_TRUE(test::same_bits(here(found.append(rows_there.narrow(1, begin, count))), seen)) << begin;
    };
    feed(0, 40);
    for (std::int64_t t = 40; t < 50; ++t) feed(t, 1);
    expect_undisturbed(counts_of([&] {
                         for (std::int64_t t = 50; t < 100; ++t) found.append(rows_there.narrow(1, t, 1));
                       }),
                       "tokens");
    for (std::int64_t t = 50; t < 100; ++t) wanted.append(rows.narrow(1, t, 1));
    EXPECT_TRUE(test::same_bits(here(found.read()), wanted.read()));
    EXPECT_EQ(found.bytes(), wanted.bytes());
    EXPECT_EQ(found.bytes(), found.predicted_bytes());
    EXPECT_GE(found.allocated_bytes(), found.bytes());
    // A copy goes its own way.
    QuantizedSequence copy = found;
    copy.append(there(at::randn({kHeads, 40, kWidth})));
    EXPECT_TRUE(test::same_bits(here(found.read()), wanted.read()));
  }
}

TEST(FakeDeviceCodecs, OutliersAreCountedWhenASegmentIsFull) {
  const KernelScope kernels(true);
  const auto codec = test::make_codec({{{"name", "kvquant"}, {"bits", 4}}, "value"}, calibration_rows());
  QuantizedSequence wanted(codec, {UpdateRule::kAppendOnly, kResidual, 0}, kHeads, kWidth, at::kFloat),
      found(codec, {UpdateRule::kAppendOnly, kResidual, 0}, kHeads, kWidth, at::device(kFakeDevice));
  const std::int64_t tokens = 2 * kSegment + kResidual + 20;
  const at::Tensor rows = at::randn({kHeads, tokens, kWidth}), rows_there = there(rows);
  const auto push = [&](QuantizedSequence& to, const at::Tensor& from) {
    for (std::int64_t t = 0; t < tokens; ++t) to.push(from.narrow(1, t, 1));
  };
  push(wanted, rows);
  const test::DeviceCounts counts = counts_of([&] { push(found, rows_there); });
  EXPECT_EQ(counts.waits, 2) << "once a segment";
  EXPECT_EQ(counts.copies_to_host, 0);
  ASSERT_EQ(found.segments().size(), 3u);
  EXPECT_TRUE(found.segments()[1].sparse.value.defined() && found.segments()[2].sparse.spread.defined());
  for (std::size_t i = 0; i < 3; ++i) {
    test::expect_same_codes(compact_on_host(used_part(found.segments()[i])), used_part(wanted.segments()[i]),
                            "segment");
  }
  EXPECT_TRUE(test::same_bits(here(found.read()), wanted.read()));
  EXPECT_EQ(found.bytes(), wanted.bytes());
}

TEST(FakeDeviceCodecs, EncodingAnewIsTheSame) {
  const KernelScope kernels(true);
  const at::Tensor sample = calibration_rows();
  for (const char* name : {"rtn", "quanto", "hqq", "kvquant"}) {
    const test::CodecConfig config{{{"name", name}, {"bits", 4}}, "value"};
    const auto codec = test::make_codec(config, sample);
    QuantizedSequence wanted(codec, {UpdateRule::kRequantize, kResidual, 0}, kHeads, kWidth, at::kFloat),
        found(codec, {UpdateRule::kRequantize, kResidual, 0}, kHeads, kWidth, at::device(kFakeDevice));
    const at::Tensor rows = at::randn({kHeads, 70, kWidth}), rows_there = there(rows);
    const auto feed = [&](QuantizedSequence& to, const at::Tensor& from) {
      to.append(from.narrow(1, 0, 30));
      for (std::int64_t t = 30; t < 70; ++t) to.append(from.narrow(1, t, 1));
    };
    feed(wanted, rows);
    const test::DeviceCounts counts = counts_of([&] { feed(found, rows_there); });
    EXPECT_EQ(counts.waits, config.codec["name"] == "kvquant" ? 3 : 0) << "outliers, each time that all is encoded";
    EXPECT_TRUE(test::same_bits(here(found.read()), wanted.read())) << name;
    EXPECT_EQ(found.bytes(), wanted.bytes()) << name;
  }
}

/// Until somebody asks, such tokens are no finite numbers: no codec gives others for them.
TEST(FakeDeviceCodecs, WhatHasNoCodeComesBackAsNoNumberAndIsNamedWhenAsked) {
  const at::Tensor sample = calibration_rows();
  for (const test::CodecConfig& config : test::codec_configs({4})) {
    for (const double odd : {double{NAN}, double{INFINITY}, -double{INFINITY}, 7e4}) {
      const std::shared_ptr<const Codec> codec = test::make_codec(config, sample);
      const bool half = config.codec["name"] == "kvquant" || config.codec.value("dtype", "") == "float16";
      if (std::isfinite(odd) && !half) continue;
      SCOPED_TRACE(config.text() + std::to_string(odd));
      const StreamShape shape{config.stream, kHeads, kWidth};
      const auto cache_on = [&](at::Device device) {
        return LayerCache({shape}, 2, at::device(device).dtype(at::kFloat),
                          {{codec, {UpdateRule::kAppendOnly, kResidual, 0}}});
      };
      at::Tensor rows = at::randn({2, kHeads, 96, kWidth});
      rows[1][1][50][5] = odd;
      const at::Tensor rows_there = there(rows);
      LayerCache wanted = cache_on(at::kCPU), found = cache_on(kFakeDevice);
      const auto feed = [&](LayerCache& cache, const at::Tensor& from) {
        at::Tensor seen = cache.append(0, from.narrow(2, 0, 40));
        for (std::int64_t t = 40; t < 96; ++t) seen = cache.append(0, from.narrow(2, t, 1));
        return seen;
      };
      EXPECT_THAT(test::message_of<DataError>([&] { feed(wanted, rows); }), HasSubstr("cache of " + config.stream));
      at::Tensor seen;
      EXPECT_EQ(counts_of([&] { seen = feed(found, rows_there); }).copies_to_host, 0);
      EXPECT_FALSE(here(seen)[1][1][50][5].isfinite().item<bool>());
      EXPECT_TRUE(here(seen)[1].isnan().any().item<bool>());
      EXPECT_FALSE(here(seen)[0].isnan().any().item<bool>()) << "the other sequence";
      EXPECT_THAT(test::message_of<DataError>([&] { expect_sound(found); }),
                  HasSubstr("cache of " + config.stream + ", sequence 1, tokens "));
      // It stays so however often it is encoded.
      if (codec->token_group(kWidth) != 1) continue;
      QuantizedSequence anew(codec, {UpdateRule::kRequantize, 4, 0}, kHeads, kWidth, at::device(kFakeDevice));
      for (std::int64_t t = 48; t < 64; ++t) anew.append(rows_there[1].narrow(1, t, 1));
      EXPECT_FALSE(is_sound(used_part(anew.segments().back())).item<bool>());
    }
  }
}

/// A codec of a model's cache, calibrated on numbers as large as the model's.
CacheFormat format_of(const Json& codec, std::int64_t residual) {
  const auto made = std::make_shared<std::map<std::string, std::shared_ptr<const Codec>>>();
  return [=](std::int64_t layer, const StreamShape& stream) -> StreamStorage {
    std::shared_ptr<const Codec>& own = (*made)[stream.name + std::to_string(layer)];
    if (!own) own = test::make_codec({codec, stream.name}, at::randn({100, stream.elements()}));
    return {own, {UpdateRule::kAppendOnly, residual, 0}};
  };
}

class FakeDeviceDecoding : public testing::TestWithParam<std::pair<std::string, Json>> {};

/// As in greedy_continue(), through a cache with a codec. Tokens are encoded at nearly every step.
TEST_P(FakeDeviceDecoding, NeverCopiesAndNeverWaits) {
  const at::NoGradGuard no_grad;
  const Decoder host = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  Decoder model = host.clone();
  model.move_to(test::on_fake_device());
  const std::int64_t residual = 8;
  const CacheFormat format = format_of(GetParam().second, residual);
  const at::Tensor prompt = test::random_ids(host.spec(), 2, 2 * residual + 3);
  DecoderCache cache = host.make_cache(2, format), cache_there = model.make_cache(2, format);
  const auto next = [](const Decoder& decoder, DecoderCache& of, at::Tensor& fed) {
    const at::Tensor logits = decoder.forward_cached(fed, of);
    fed = logits.argmax(-1, true);
    return logits;
  };
  at::Tensor fed = prompt, fed_there = there(prompt);
  const auto both = [&](std::int64_t steps) {
    for (std::int64_t i = 0; i < steps; ++i) {
      const at::Tensor wanted = next(host, cache, fed), found = next(model, cache_there, fed_there);
      EXPECT_LE(test::largest_difference(here(found), wanted), 1e-4) << "a code near a boundary may be another one";
      EXPECT_TRUE(at::equal(here(fed_there), fed));
    }
  };
  both(4);
  expect_undisturbed(counts_of([&] {
                       for (std::int64_t i = 0; i < 2 * residual; ++i) next(model, cache_there, fed_there);
                     }),
                     GetParam().first);
  for (std::int64_t i = 0; i < 2 * residual; ++i) next(host, cache, fed);
  both(2);
  EXPECT_EQ(cache_there.bytes(), cache.bytes());
  EXPECT_EQ(cache_there.bytes(), cache_there.predicted_bytes());
  EXPECT_NO_THROW(expect_sound(model, cache_there));
}

INSTANTIATE_TEST_SUITE_P(
    Codecs, FakeDeviceDecoding,
    testing::Values(std::pair("rtn", Json{{"name", "rtn"}, {"bits", 4}}),
                    std::pair("rtn_by_channel", Json{{"name", "rtn"}, {"per", "channel"}, {"group_size", 8}}),
                    std::pair("quanto", Json{{"name", "quanto"}, {"group_size", 8}}),
                    std::pair("hqq", Json{{"name", "hqq"}, {"group_size", 8}}),
                    std::pair("hqq_by_token",
                              Json{{"name", "hqq"}, {"group_size", 8}, {"axis", 1}, {"optimize", false}}),
                    std::pair("kivi", Json{{"name", "kivi"}, {"group_size", 8}}),
                    std::pair("kivi_float16", Json{{"name", "kivi"}, {"group_size", 8}, {"dtype", "float16"}}),
                    std::pair("kvquant", Json{{"name", "kvquant"}, {"sparsity_threshold", 0.9}}),
                    std::pair("kvquant_capped", Json{{"name", "kvquant"}, {"variant", "nuq1cap"}}),
                    std::pair("kvquant_normal_float", Json{{"name", "kvquant"}, {"variant", "nf"}}),
                    std::pair("kvquant_uniform", Json{{"name", "kvquant"}, {"variant", "int1"}})),
    [](const auto& test) { return test.param.first; });

/// Weights that a codec packed, and their products.
TEST(FakeDeviceCodecs, PackedWeightsAreEncodedAndDecodedThere) {
  const at::NoGradGuard no_grad;
  Decoder host = test::tiny_decoder(test::tiny_spec("gqa"));
  const TokenRowList rows = test::random_rows(host.spec(), 2, 24);
  const at::Tensor ids = test::random_ids(host.spec(), 2, 9), ids_there = there(ids);
  const auto there_too = [&] {
    Decoder model = host.clone();
    model.move_to(test::on_fake_device(at::kDouble));
    return model;
  };
  const auto pass = [](const char* codec) {
    return Json{{"name", "quantize_weights"}, {"codec", {{"name", codec}, {"bits", 3}, {"group_size", 8}}}};
  };
  for (const char* codec : {"rtn", "kivi", "quanto", "hqq"}) {
    const Decoder wanted = test::after_pass(host, pass(codec), rows),
                  found = test::after_pass(there_too(), pass(codec), rows);
    at::Tensor logits;
    const test::DeviceCounts counts = counts_of([&] { logits = found.forward(ids_there); });
    EXPECT_EQ(counts.waits + counts.copies_to_host, 0) << codec;
    EXPECT_EQ(counts.copies_to_device, 2) << "rotations' cosines and sines";
    EXPECT_LE(test::largest_difference(here(logits), wanted.forward(ids)), 1e-6) << codec;
  }
  host.visit_parameters([](const std::string& name, at::Tensor& tensor) {
    if (name.ends_with("o_proj.weight")) tensor[2][3] = NAN;
  });
  EXPECT_THAT(test::message_of<DataError>([&] { test::after_pass(host, pass("rtn"), rows); }),
              HasSubstr("o_proj: rtn: element [2, 3]"));
  EXPECT_THAT(test::message_of<DataError>([&] { test::after_pass(there_too(), pass("rtn"), rows); }),
              HasSubstr("o_proj: 3-bit rtn codes: group [2, 0]"));
}

/// Values of thousands of times the usual size have no float16 scale: what is made of them is refused as on the host.
TEST(FakeDeviceCodecs, ModelsWhoseCachesHoldNoNumbersAreRefused) {
  const at::NoGradGuard no_grad;
  const CacheFormat format = format_of({{"name", "rtn"}, {"dtype", "float16"}}, 4);
  Decoder host = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  host.visit_parameters([](const std::string& name, at::Tensor& tensor) {
    if (name.ends_with("v_proj.weight")) tensor.mul_(1e7);
  });
  Decoder model = host.clone();
  model.move_to(test::on_fake_device());
  std::vector<std::vector<std::int32_t>> rows(1);
  std::vector<std::vector<std::int64_t>> prompts(1);
  for (std::int32_t token = 1; token <= 32; ++token) {
    rows[0].push_back(token);
    prompts[0].push_back(token);
  }
  const CachedPerplexityOptions windows{.context = 32, .prompt = 8, .batch = 1};
  GenerateOptions generation;
  generation.count = 4;
  for (const Decoder* decoder : {&host, &model}) {
    EXPECT_THAT(test::message_of<DataError>([&] { cached_perplexity(*decoder, rows, windows, format); }),
                HasSubstr("cache of value"));
    std::int64_t told = 0;
    const TokenSink sink = [&](std::int64_t, std::int64_t) { return ++told > 0; };
    EXPECT_THAT(
        test::message_of<DataError>([&] { generate(*decoder, prompts, generation, DecodePath::kAuto, format, sink); }),
        HasSubstr("cache of value"));
    EXPECT_LE(told, 1) << "the prompt's answer is exact; none is told that was made of no numbers";
  }
}

}  // namespace
}  // namespace mla
