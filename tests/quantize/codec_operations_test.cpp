// Codecs by LibTorch's operations, as on other devices, against the host's kernels: the same bits.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/base/error.h"
#include "core/ops/kernel_scope.h"
#include "core/ops/kernels.h"
#include "core/quantize/kvquant_rows.h"
#include "core/quantize/limits.h"
#include "core/quantize/packed_operations.h"
#include "core/quantize/round_trip.h"
#include "tests/support/codec_configs.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using testing::HasSubstr;

template <class Work>
auto with_kernels(bool on, const Work& work) {
  const KernelScope scope(on);
  EXPECT_EQ(kernels_are_on(), on);
  return work();
}

TEST(KernelScope, HoldsUntilItEnds) {
  const bool before = kernels_are_on();
  {
    const KernelScope off(false);
    EXPECT_FALSE(kernels_are_on());
    {
      const KernelScope on(true);
      EXPECT_TRUE(kernels_are_on());
    }
    EXPECT_FALSE(kernels_are_on());
  }
  EXPECT_EQ(kernels_are_on(), before);
}

TEST(CodecOperations, AreTriedForEveryCodec) {
  std::set<std::string> tried;
  for (const test::CodecConfig& config : test::codec_configs({4})) tried.insert(config.codec["name"]);
  const std::vector<std::string> names = Registry<Codec>::instance().names();
  EXPECT_EQ(tried, std::set<std::string>(names.begin(), names.end()));
}

TEST(CodecOperations, EncodeAndDecodeToTheBitsOfTheKernels) {
  const at::Tensor sample = at::randn({300, 64}) * at::linspace(0.5, 2, 64);
  std::size_t compared = 0;
  for (const test::CodecConfig& config : test::codec_configs({1, 2, 3, 4, 8})) {
    const auto codec = test::make_codec(config, sample);
    std::size_t number = 0;
    for (const at::Tensor& heads : test::hard_tensors()) {
      const std::string what = config.text() + ", tensor " + std::to_string(number++);
      const at::Tensor x = codec->joins_heads() ? heads.transpose(0, 1).flatten(1).unsqueeze(0) : heads;
      const Packed wanted = with_kernels(true, [&] { return codec->encode(x); }),
                   found = with_kernels(false, [&] { return codec->encode(x); });
      test::expect_same_codes(found, wanted, what);
      EXPECT_TRUE(test::same_bits(with_kernels(false, [&] { return decode(wanted); }),
                                  with_kernels(true, [&] { return decode(wanted); })))
          << what;
      EXPECT_TRUE(is_sound(wanted).item<bool>()) << what;
      ++compared;
    }
  }
  EXPECT_GT(compared, 1000u);
}

TEST(CodecOperations, RefuseWhatTheKernelsRefuseInTheSameWords) {
  const at::Tensor sample = at::randn({300, 64});
  for (const test::CodecConfig& config : test::codec_configs({4})) {
    const auto codec = test::make_codec(config, sample);
    for (const double odd : {double{NAN}, double{INFINITY}, -double{INFINITY}, 7e4, 3e38}) {
      at::Tensor x = at::randn({1, 32, 64});
      x[0][3][5] = odd;
      x[0][4][5] = -odd;
      const auto refusal = [&](bool kernels) {
        return with_kernels(kernels, [&] { return test::message_of<DataError>([&] { codec->encode(x); }); });
      };
      EXPECT_EQ(refusal(false), refusal(true)) << config.text() << odd;
      if (!std::isfinite(odd)) {
        EXPECT_THAT(refusal(false), HasSubstr("element [0, 3, 5]")) << config.text();
      }
    }
  }
}

TEST(CodecOperations, PackRowsOfAnyBitsAndWidth) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const std::int64_t width : {1, 5, 8, 24, 33}) {
      const at::Tensor codes = at::randint(0, 1 << bits, {3, 4, width}, at::kByte);
      const at::Tensor wanted = with_kernels(true, [&] { return pack_rows(codes, bits); });
      EXPECT_TRUE(test::same_numbers(pack_rows_by_operations(codes, bits), wanted)) << bits << " " << width;
      EXPECT_TRUE(test::same_numbers(unpack_rows_by_operations(wanted, width, bits), codes)) << bits << " " << width;
    }
  }
}

/// Formats that no codec makes, too.
TEST(CodecOperations, DecodeEveryFormat) {
  std::size_t compared = 0;
  for (const CodeForm form :
       {CodeForm::kScaledPlusZero, CodeForm::kLessZeroScaled, CodeForm::kPlusZeroDivided, CodeForm::kCodebook}) {
    for (const HalfRounding rounding : {HalfRounding::kNone, HalfRounding::kResult, HalfRounding::kEveryStep}) {
      for (const Grouping grouping : {Grouping::kContiguous, Grouping::kRows, Grouping::kStrided, Grouping::kOffline}) {
        for (const at::ScalarType type : {at::kFloat, at::kHalf}) {
          Packed packed;
          packed.bits = 3;
          packed.shape = {2, 6, 20};
          packed.grouping = grouping;
          packed.group = 12;
          packed.form = form;
          packed.rounding = rounding;
          packed.codes = pack_rows(at::randint(0, 8, packed.shape, at::kByte), 3);
          const std::int64_t groups = grouping == Grouping::kOffline ? 20 : 2 * 6 * 20 / 12;
          packed.scale = (at::rand({groups}) + 0.1).to(type);
          packed.zero = at::randn({groups}).to(type);
          if (form == CodeForm::kCodebook) packed.codebook = at::randn({8});
          EXPECT_TRUE(test::same_bits(decode_by_operations(packed), with_kernels(true, [&] { return decode(packed); })))
              << static_cast<int>(form) << static_cast<int>(rounding) << static_cast<int>(grouping) << type;
          ++compared;
        }
      }
    }
  }
  EXPECT_EQ(compared, 4u * 3 * 4 * 2);
}

TEST(CodecOperations, SparseEntriesAreTheSameSpreadAndCompact) {
  KvQuantScheme scheme;
  scheme.sparse = true;
  scheme.quantile = 0.9;
  KvQuantTables tables;
  tables.search = tables.codebook = at::linspace(-1, 1, 16);
  const at::Tensor rows = as_half(at::randn({7, 300}));
  const KvQuantRows wanted = kvquant_rows_on_host(rows, scheme, tables),
                    found = kvquant_rows_by_operations(rows, scheme, tables);
  EXPECT_FALSE(found.sparse.end.defined());
  EXPECT_EQ(found.sparse.entries(), wanted.sparse.entries());
  EXPECT_EQ(found.sparse.rows(), 7);
  const SparseRows compact = compacted(found.sparse);
  EXPECT_TRUE(test::same_numbers(compact.end, wanted.sparse.end));
  EXPECT_TRUE(test::same_numbers(compact.channel, wanted.sparse.channel));
  EXPECT_TRUE(test::same_numbers(compact.value, wanted.sparse.value));
  at::Tensor from_spread = at::zeros({7, 300}), from_entries = at::zeros({7, 300});
  put_sparse_by_operations(found.sparse, from_spread);
  put_sparse_by_operations(compact, from_entries);
  EXPECT_TRUE(test::same_bits(from_spread, from_entries));
  EXPECT_EQ(from_entries.ne(0).sum().item<std::int64_t>(), wanted.sparse.entries());
}

/// Of 65,536 channels the last ones have numbers that int16 holds as negative ones.
TEST(CodecOperations, OutliersStandInAnyOfManyChannels) {
  const test::CodecConfig config{{{"name", "kvquant"}, {"variant", "nf1"}, {"bits", 2}}, "value"};
  const at::Tensor x = at::randn({1, 3, 65536});
  const auto codec = test::make_codec(config, at::randn({4, 8}));
  const Packed wanted = with_kernels(true, [&] { return codec->encode(x); }),
               found = with_kernels(false, [&] { return codec->encode(x); });
  test::expect_same_codes(found, wanted, "wide rows");
  EXPECT_LT(wanted.sparse.channel.min().item<int>(), 0);
  EXPECT_TRUE(test::same_bits(with_kernels(false, [&] { return decode(found); }),
                              with_kernels(true, [&] { return decode(found); })));
}

TEST(CodecOperations, ScalesThatAreNoNumbersAreNamedLater) {
  const auto codec = test::make_codec({{{"name", "rtn"}, {"bits", 4}}, "key"}, at::randn({4, 16}));
  Packed packed = codec->encode(at::randn({2, 5, 16}));
  expect_sound(packed, "rtn");
  for (const float odd : {NAN, INFINITY}) {
    Packed spoilt = packed;
    spoilt.scale = packed.scale.clone();
    spoilt.scale[1][2][0] = odd;
    EXPECT_FALSE(is_sound(spoilt).item<bool>());
    EXPECT_THAT(test::message_of<DataError>([&] { expect_sound(spoilt, "cache"); }),
                HasSubstr("cache: group [1, 2, 0] of [2, 5, 1]"));
  }
  packed.fault = at::scalar_tensor(38, at::kLong);
  EXPECT_FALSE(is_sound(packed).item<bool>());
  EXPECT_THAT(test::message_of<DataError>([&] { expect_sound(packed, "cache"); }),
              HasSubstr("cache: element [0, 2, 6] of [2, 5, 16] is no finite number"));
  EXPECT_TRUE(decode_by_operations(packed).isnan().all().item<bool>());
}

}  // namespace
}  // namespace mla
