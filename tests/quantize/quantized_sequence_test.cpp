#include "core/quantize/quantized_sequence.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"

namespace mla {
namespace {

constexpr std::int64_t kHeads = 2, kWidth = 64;

std::shared_ptr<const Codec> make(const Json& codec, const std::string& stream) {
  const auto made = Registry<Codec>::instance().make(codec, "codec");
  // Rows of another draw; KVQuant needs them.
  const at::Tensor sample = at::randn({400, kHeads * kWidth});
  const StreamSample calibration{sample, at::rand_like(sample)};
  return made->for_stream(stream, &calibration);
}

/// Every codec on keys and on values.
std::vector<std::pair<Json, std::string>> all_codecs() {
  std::vector<std::pair<Json, std::string>> all;
  for (const int bits : {8, 4, 3, 2}) {
    for (const std::string stream : {"key", "value"}) {
      all.push_back({{{"name", "rtn"}, {"bits", bits}}, stream});
      all.push_back({{{"name", "rtn"}, {"bits", bits}, {"per", "channel"}, {"group_size", 16}}, stream});
      all.push_back({{{"name", "quanto"}, {"bits", bits}}, stream});
      all.push_back({{{"name", "quanto"}, {"bits", bits}, {"axis", -1}}, stream});
      all.push_back({{{"name", "hqq"}, {"bits", bits}}, stream});
      all.push_back({{{"name", "hqq"}, {"bits", bits}, {"axis", 1}, {"optimize", false}}, stream});
      all.push_back({{{"name", "kivi"}, {"bits", bits}}, stream});
      all.push_back({{{"name", "kivi"}, {"bits", bits}, {"dtype", "float16"}}, stream});
      all.push_back({{{"name", "kvquant"}, {"bits", bits}}, stream});
      all.push_back({{{"name", "kvquant"}, {"bits", bits}, {"variant", "int"}, {"first_few_fp16", 1}}, stream});
    }
  }
  return all;
}

at::Tensor feed(QuantizedSequence& sequence, const at::Tensor& rows, const std::vector<std::int64_t>& calls) {
  at::Tensor last;
  std::int64_t begin = 0;
  for (const std::int64_t count : calls) {
    last = sequence.append(rows.narrow(1, begin, count));
    begin += count;
  }
  return last;
}

const std::vector<std::int64_t> kOneCall = {300};
const std::vector<std::int64_t> kManyCalls = {1, 63, 64, 65, 7, 1, 1, 1, 90, 7};

TEST(QuantizedSequence, HoldsAsManyBytesAsPredicted) {
  for (const auto& [codec, stream] : all_codecs()) {
    for (const UpdateRule rule : {UpdateRule::kAppendOnly, UpdateRule::kRequantize}) {
      // Encoding anew takes whatever number of tokens there is: KIVI's and grouped keys do not.
      const bool any_length =
          codec["name"] != "kivi" && codec.value("group_size", 0) == 0 && codec.value("axis", 0) == 0;
      if (rule == UpdateRule::kRequantize && !any_length) continue;
      SCOPED_TRACE(codec.dump() + stream);
      QuantizedSequence sequence(make(codec, stream), {rule, 32, 0}, kHeads, kWidth, at::kFloat);
      const at::Tensor rows = at::randn({kHeads, 300, kWidth});
      feed(sequence, rows, kManyCalls);
      EXPECT_EQ(sequence.length(), 300);
      EXPECT_EQ(sequence.bytes(), sequence.predicted_bytes());
      EXPECT_GE(sequence.allocated_bytes(), sequence.bytes());
      EXPECT_LT(sequence.bytes(), rows.nbytes());
      EXPECT_EQ(sequence.read().sizes(), rows.sizes());
    }
  }
}

TEST(QuantizedSequence, AppendOnlyDoesNotDependOnCalls) {
  for (const auto& [codec, stream] : all_codecs()) {
    SCOPED_TRACE(codec.dump() + stream);
    const auto shared = make(codec, stream);
    const at::Tensor rows = at::randn({kHeads, 300, kWidth});
    QuantizedSequence once(shared, {UpdateRule::kAppendOnly, 64, 3}, kHeads, kWidth, at::kFloat);
    QuantizedSequence often = once;
    feed(once, rows, kOneCall);
    feed(often, rows, kManyCalls);
    EXPECT_TRUE(at::equal(once.read(), often.read()));
    EXPECT_EQ(once.bytes(), often.bytes());
    // Sinks and the residual are as they were given.
    EXPECT_TRUE(at::equal(once.read().narrow(1, 0, 3), rows.narrow(1, 0, 3)));
    const std::int64_t kept = once.residual().size(1);
    EXPECT_TRUE(at::equal(once.residual(), rows.narrow(1, 300 - kept, kept)));
  }
}

TEST(QuantizedSequence, TheStepSeesWhatWasStoredBeforeIt) {
  const auto codec = make({{"name", "rtn"}, {"bits", 2}}, "key");
  for (const UpdateRule rule : {UpdateRule::kAppendOnly, UpdateRule::kRequantize}) {
    QuantizedSequence sequence(codec, {rule, 4, 0}, kHeads, kWidth, at::kFloat);
    const at::Tensor rows = at::randn({kHeads, 60, kWidth});
    EXPECT_TRUE(at::equal(sequence.append(rows.narrow(1, 0, 40)), rows.narrow(1, 0, 40)));
    for (std::int64_t t = 40; t < 60; ++t) {
      const at::Tensor before = sequence.read();
      const at::Tensor seen = sequence.append(rows.narrow(1, t, 1));
      EXPECT_TRUE(at::equal(seen, at::cat({before, rows.narrow(1, t, 1)}, 1)));
    }
  }
}

TEST(QuantizedSequence, RequantizingEncodesTheHistoryAnew) {
  const auto codec = make({{"name", "quanto"}, {"bits", 4}}, "key");
  QuantizedSequence sequence(codec, {UpdateRule::kRequantize, 4, 0}, kHeads, kWidth, at::kFloat);
  const at::Tensor rows = at::randn({kHeads, 30, kWidth});
  at::Tensor stored = decode(codec->encode(rows.narrow(1, 0, 20)));
  sequence.append(rows.narrow(1, 0, 20));
  EXPECT_TRUE(at::equal(sequence.read(), stored));
  for (std::int64_t t = 20; t < 24; ++t) sequence.append(rows.narrow(1, t, 1));
  stored = decode(codec->encode(at::cat({stored, rows.narrow(1, 20, 4)}, 1)));
  EXPECT_TRUE(at::equal(sequence.read(), stored));
  EXPECT_EQ(sequence.residual().size(1), 0);
  // push() takes another way to the same.
  QuantizedSequence pushed(codec, {UpdateRule::kRequantize, 4, 0}, kHeads, kWidth, at::kFloat);
  pushed.push(rows.narrow(1, 0, 20));
  for (std::int64_t t = 20; t < 24; ++t) pushed.push(rows.narrow(1, t, 1));
  EXPECT_TRUE(at::equal(pushed.read(), stored));
}

TEST(QuantizedSequence, CopiesGoTheirOwnWays) {
  for (const auto& [codec, stream] : all_codecs()) {
    SCOPED_TRACE(codec.dump() + stream);
    QuantizedSequence first(make(codec, stream), {UpdateRule::kAppendOnly, 32, 0}, kHeads, kWidth, at::kFloat);
    const at::Tensor rows = at::randn({kHeads, 200, kWidth}), others = at::randn({kHeads, 100, kWidth});
    first.push(rows.narrow(1, 0, 100));
    QuantizedSequence second = first;
    second.push(others);
    first.push(rows.narrow(1, 100, 100));
    QuantizedSequence alone = first;
    alone.reset();
    EXPECT_EQ(alone.bytes(), 0);
    alone.push(rows);
    EXPECT_TRUE(at::equal(first.read(), alone.read()));
    alone.reset();
    alone.push(at::cat({rows.narrow(1, 0, 100), others}, 1));
    EXPECT_TRUE(at::equal(second.read(), alone.read()));
  }
}

TEST(QuantizedSequence, SegmentsAreWhatWasPacked) {
  const auto codec = make({{"name", "rtn"}, {"bits", 3}}, "key");
  QuantizedSequence sequence(codec, {UpdateRule::kAppendOnly, 5, 0}, kHeads, kWidth, at::kFloat);
  const at::Tensor rows = at::randn({kHeads, 600, kWidth});
  for (std::int64_t t = 0; t < 600; ++t) sequence.push(rows.narrow(1, t, 1));
  std::int64_t tokens = 0;
  for (const Packed& segment : sequence.segments()) {
    const std::int64_t count = segment.tokens();
    const Packed wanted = codec->encode(rows.narrow(1, tokens, count));
    EXPECT_TRUE(at::equal(segment.codes.narrow(1, 0, count), wanted.codes));
    EXPECT_TRUE(at::equal(segment.scale.narrow(1, 0, count), wanted.scale));
    tokens += count;
  }
  EXPECT_EQ(tokens, 595);
}

TEST(QuantizedSequence, RefusesBlocksThatDoNotFit) {
  const auto codec = make({{"name", "kivi"}, {"group_size", 32}}, "key");
  EXPECT_THROW(QuantizedSequence(codec, {UpdateRule::kAppendOnly, 48, 0}, kHeads, kWidth, at::kFloat), ConfigError);
  const auto hqq = make({{"name", "hqq"}}, "key");
  EXPECT_THROW(QuantizedSequence(hqq, {UpdateRule::kAppendOnly, 0, 0}, kHeads, kWidth, at::kFloat), ConfigError);
  EXPECT_THROW(QuantizedSequence(hqq, {UpdateRule::kAppendOnly, 1, 0}, 1, 8, at::kFloat), ConfigError);
}

TEST(Packing, RowsComeBackForAllBits) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const std::int64_t width : {1, 5, 8, 24, 33}) {
      const at::Tensor codes = at::randint(0, 1 << bits, {3, 4, width}, at::kByte);
      const at::Tensor packed = pack_rows(codes, bits);
      EXPECT_EQ(packed.size(-1), (width * bits + 7) / 8);
      EXPECT_TRUE(at::equal(unpack_rows(packed, width, bits), codes)) << bits << " " << width;
    }
  }
}

TEST(QuantizedSequence, ARoomForManyTokensIsMadeAsTheyCome) {
  QuantizedSequence sequence(make({{"name", "rtn"}, {"bits", 4}}, "value"), {UpdateRule::kAppendOnly, 1LL << 31, 0},
                             kHeads, kWidth, at::kFloat);
  const at::Tensor rows = at::randn({kHeads, 9, kWidth});
  EXPECT_TRUE(at::equal(feed(sequence, rows, {4, 4, 1}), rows)) << "nothing is encoded within the residual";
  EXPECT_LT(sequence.allocated_bytes(), 1 << 24);
}

}  // namespace
}  // namespace mla
