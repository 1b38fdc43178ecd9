// What every cache codec promises.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/registry.h"
#include "core/quantize/round_trip.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using Codecs = Registry<Codec>;
using testing::HasSubstr;

at::Tensor random_tensor() { return at::randn({2, 3, 64, 64}) * at::linspace(0.1, 3, 64); }

/// The codec of a name, calibrated on other rows.
std::unique_ptr<Codec> make(const std::string& name, int bits, const std::string& stream = "key") {
  const at::Tensor rows = random_tensor().transpose(1, 2).flatten(2).flatten(0, 1);
  const StreamSample sample{rows, {}};
  return Codecs::instance().make({{"name", name}, {"bits", bits}}, "codec")->for_stream(stream, &sample);
}

class EveryCodec : public testing::TestWithParam<std::string> {};

TEST_P(EveryCodec, StoresWhatItPredictsAndComesBackInShape) {
  for (const int bits : {8, 4, 3, 2}) {
    for (const char* stream : {"key", "value", "latent"}) {
      const at::Tensor x = random_tensor();
      const RoundTrip trip = round_trip(*make(GetParam(), bits, stream), x);  // asserts counted = predicted bytes
      EXPECT_EQ(trip.decoded.sizes(), x.sizes());
      EXPECT_EQ(trip.decoded.scalar_type(), at::kFloat);
      EXPECT_GE(trip.effective_bits(), bits);
      EXPECT_LT(trip.effective_bits(), bits + 3);
      EXPECT_TRUE(trip.decoded.isfinite().all().item<bool>());
    }
  }
}

TEST_P(EveryCodec, StatesTheFormatOfWhatItEncodes) {
  bool stated = false;
  for (const int bits : {8, 4, 3}) {
    for (const char* stream : {"key", "value"}) {
      const auto codec = make(GetParam(), bits, stream);
      for (const auto& sizes : {std::vector<std::int64_t>{64, 128}, {2, 3, 64, 64}}) {
        const std::optional<PackedFormat> format = codec->format(sizes);
        stated = stated || format;
        if (!format) continue;
        EXPECT_EQ(*format, format_of(codec->encode(at::randn(sizes)))) << bits << stream;
      }
    }
  }
  EXPECT_EQ(stated, GetParam() != "kvquant") << "codes that lean on a calibration have no format of their own";
}

TEST_P(EveryCodec, IsDeterministic) {
  const at::Tensor x = random_tensor();
  const auto codec = make(GetParam(), 3);
  EXPECT_TRUE(at::equal(round_trip(*codec, x).decoded, round_trip(*codec, x).decoded));
}

TEST_P(EveryCodec, MoreBitsAreCloser) {
  const at::Tensor x = random_tensor();
  double last = 10;
  for (const int bits : {2, 3, 4, 8}) {
    const double error = tensor_error(x, round_trip(*make(GetParam(), bits), x).decoded).mse;
    EXPECT_LT(error, last) << bits;
    last = error;
  }
}

TEST_P(EveryCodec, SurvivesConstantsZerosAndHugeValues) {
  at::Tensor huge = at::randn({1, 3, 64, 64});
  huge[0][1][5][7] = 3e4;
  for (const at::Tensor& x : {at::zeros({1, 3, 64, 64}), at::full({1, 3, 64, 64}, -0.43F), huge}) {
    for (const char* stream : {"key", "value"}) {
      EXPECT_TRUE(round_trip(*make(GetParam(), 2, stream), x).decoded.isfinite().all().item<bool>());
    }
  }
}

TEST_P(EveryCodec, RefusesWhatIsNoNumber) {
  for (const float odd : {NAN, INFINITY, -INFINITY}) {
    at::Tensor x = random_tensor();
    x[1][2][3][4] = odd;
    EXPECT_THAT(test::message_of<DataError>([&] { round_trip(*make(GetParam(), 4), x); }),
                testing::AllOf(HasSubstr(GetParam() + ": element ["), HasSubstr("only finite numbers have codes")));
  }
}

/// Whatever the size of the numbers: an error, or numbers that come back within a step of their group's range.
TEST_P(EveryCodec, NeverGivesWhatIsNoNumber) {
  for (const Json& more : {Json::object(), Json{{"dtype", "float16"}}, Json{{"scales", "float16"}}}) {
    for (const double size : {1e-40, 1e-38, 1e-8, 1e-5, 1.0, 3e4, 65000.0, 65504.0, 1e5, 1e20, 1.7e38, 3.4e38}) {
      for (const bool one_sided : {false, true}) {
        for (const char* stream : {"key", "value"}) {
          Json config = {{"name", GetParam()}, {"bits", 2}};
          config.update(more);
          at::Tensor x = (at::rand({1, 2, 64, 64}) * (one_sided ? 1 : 2) - (one_sided ? 0 : 1)) * size;
          const StreamSample sample{x.transpose(1, 2).flatten(2).flatten(0, 1), {}};
          try {
            const auto codec = Codecs::instance().make(config, "codec")->for_stream(stream, &sample);
            EXPECT_TRUE(round_trip(*codec, x).decoded.isfinite().all().item<bool>()) << config << size << stream;
          } catch (const ConfigError&) {  // an option of another codec
            EXPECT_FALSE(more.empty());
          } catch (const DataError& error) {
            EXPECT_THAT(error.what(), HasSubstr(GetParam()));
            EXPECT_TRUE(size > 1e4 || size < 1e-3) << config << size << stream << error.what();
          }
        }
      }
    }
  }
}

TEST_P(EveryCodec, RefusesWrongBitsInOneLine) {
  for (const int bits : {0, 9, -1}) {
    const auto message = test::message_of<ConfigError>([&] {
      Codecs::instance().make({{"name", GetParam()}, {"bits", bits}}, "cache.codec");
    });
    EXPECT_THAT(message, HasSubstr("cache.codec.bits = " + std::to_string(bits)));
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST_P(EveryCodec, ItsPartsHoldTheCodes) {
  const at::Tensor x = random_tensor();
  const auto codec = make(GetParam(), 4);
  const RoundTrip trip = round_trip(*codec, x);
  bool found = false;
  for (const auto& [name, part] : codec->parts(trip.packed)) {
    if (name != "codes") continue;
    found = true;
    EXPECT_EQ(part.numel(), x.numel());
    EXPECT_LE(part.max().item<int>(), 15);
  }
  EXPECT_TRUE(found);
}

INSTANTIATE_TEST_SUITE_P(All, EveryCodec, testing::ValuesIn(Codecs::instance().names()),
                         [](const auto& test) { return test.param; });

TEST(Codecs, AreThose) {
  EXPECT_THAT(Codecs::instance().names(), testing::ElementsAre("hqq", "kivi", "kvquant", "quanto", "rtn"));
}

TEST(Codecs, GroupsWhoseCodesAreNoWholeBytesAreRefused) {
  const auto refusal = [](std::int64_t group) {
    return test::message_of<ConfigError>([&] {
      Codecs::instance().make({{"name", "rtn"}, {"bits", 3}, {"group_size", group}}, "codec");
    });
  };
  EXPECT_THAT(refusal(12),
              HasSubstr("group_size = 12: 12 codes of 3 bits are 36 bits, not whole bytes; use a multiple of 8"));
  // The product of the two has no place in 64 bits.
  EXPECT_THAT(refusal(std::numeric_limits<std::int64_t>::max()),
              HasSubstr("9223372036854775807 codes of 3 bits are not whole bytes; use a multiple of 8"));
}

TEST(Codecs, TensorsThatGroupsDoNotTileAreRefused) {
  for (const Json& codec :
       {Json{{"name", "hqq"}}, Json{{"name", "quanto"}}, Json{{"name", "kivi"}, {"group_size", 32}}}) {
    const auto made = Codecs::instance().make(codec, "codec");
    EXPECT_THROW(round_trip(*made, at::zeros({1, 3, 5, 8})), ConfigError) << codec;
  }
  EXPECT_THROW(round_trip(*Codecs::instance().make({{"name", "rtn"}}, "codec"), at::zeros({5})), ConfigError);
}

TEST(Codecs, EffectiveBitsFollowTheFormula) {
  const at::Tensor x = random_tensor();
  const auto bits_of = [&](const Json& codec) {
    return round_trip(*Codecs::instance().make(codec, "codec"), x).effective_bits();
  };
  EXPECT_DOUBLE_EQ(bits_of({{"name", "rtn"}, {"bits", 4}}), 4 + 64.0 / 64);
  EXPECT_DOUBLE_EQ(
      bits_of({{"name", "rtn"}, {"bits", 3}, {"per", "channel"}, {"group_size", 32}, {"dtype", "float16"}}),
      3 + 32.0 / 32);
  EXPECT_DOUBLE_EQ(bits_of({{"name", "hqq"}, {"bits", 2}}), 2 + 64.0 / 64);
  EXPECT_DOUBLE_EQ(bits_of({{"name", "kivi"}, {"bits", 2}, {"dtype", "float16"}}), 2 + 32.0 / 32);
  // arXiv 2401.18079, appendix M: codes, sparse values with their channels, a pointer a token; values' scale and zero.
  const auto kvquant = make("kvquant", 3, "value");
  const RoundTrip trip = round_trip(*kvquant, x);
  const double share = static_cast<double>(trip.packed.sparse.entries()) / static_cast<double>(x.numel());
  EXPECT_DOUBLE_EQ(trip.effective_bits(), 3 + 32 * share + (32 + 64.0) / 192);
}

}  // namespace
}  // namespace mla
