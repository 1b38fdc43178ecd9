// Codecs in many settings, for tests that hold for each of them.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/base/registry.h"
#include "core/quantize/codec.h"

namespace mla::test {

/// A codec's options, for the stream "key" or "value".
struct CodecConfig {
  Json codec;
  std::string stream;
  std::string text() const { return codec.dump() + " of " + stream; }
};

/// Every codec, of keys and of values, with groups of tokens, of channels and of both, and all its ways of rounding.
/// Groups have 16 elements or a whole row.
inline std::vector<CodecConfig> codec_configs(const std::vector<int>& all_bits) {
  const std::vector<Json> settings = {
      {{"name", "rtn"}},
      {{"name", "rtn"}, {"dtype", "float16"}},
      {{"name", "rtn"}, {"per", "channel"}, {"group_size", 16}},
      {{"name", "quanto"}, {"group_size", 16}},
      {{"name", "quanto"}, {"group_size", 64}},  // two tokens of 32 channels
      {{"name", "quanto"}, {"group_size", 16}, {"axis", -1}, {"dtype", "float16"}},
      {{"name", "hqq"}, {"group_size", 16}},
      {{"name", "hqq"}, {"group_size", 16}, {"version", "0.2.2"}, {"optimize", true}},
      {{"name", "hqq"}, {"group_size", 16}, {"axis", 1}, {"optimize", false}},
      {{"name", "kivi"}, {"group_size", 16}},
      {{"name", "kivi"}, {"group_size", 16}, {"dtype", "float16"}},
      {{"name", "kvquant"}, {"sparsity_threshold", 0.9}},
      {{"name", "kvquant"}, {"sparsity_threshold", 0.9}, {"cap_outliers", 2}, {"scales", "float16"}},
      {{"name", "kvquant"}, {"variant", "nuq1sink"}},
      {{"name", "kvquant"}, {"variant", "nuq"}},
      {{"name", "kvquant"}, {"variant", "nf"}},
      {{"name", "kvquant"}, {"variant", "nf1"}, {"sparsity_threshold", 0.95}},
      {{"name", "kvquant"}, {"variant", "int"}},
      {{"name", "kvquant"}, {"variant", "int1"}, {"sparsity_threshold", 0.95}}};
  std::vector<CodecConfig> all;
  for (const int bits : all_bits) {
    for (Json codec : settings) {
      codec["bits"] = bits;
      for (const char* stream : {"key", "value"}) all.push_back({codec, stream});
    }
  }
  return all;
}

/// Made for its stream, calibrated on `sample` [tokens, channels of all heads].
inline std::shared_ptr<const Codec> make_codec(const CodecConfig& config, const at::Tensor& sample) {
  const StreamSample calibration{sample, at::rand_like(sample)};
  return Registry<Codec>::instance().make(config.codec, "codec")->for_stream(config.stream, &calibration);
}

/// Of tensors of one type and shape on the host, zeros of either sign being the same.
inline bool same_numbers(const at::Tensor& a, const at::Tensor& b) {
  if (a.defined() != b.defined()) return false;
  return !a.defined() || (a.scalar_type() == b.scalar_type() && at::equal(a, b));
}

/// Codes, scales, zeros and sparse entries of what stands on the host.
inline void expect_same_codes(const Packed& found, const Packed& wanted, const std::string& what) {
  EXPECT_EQ(found.shape, wanted.shape) << what;
  EXPECT_TRUE(mla::format_of(found) == mla::format_of(wanted)) << what;
  EXPECT_TRUE(same_numbers(found.codes, wanted.codes)) << what << ": codes";
  EXPECT_TRUE(same_numbers(found.scale, wanted.scale)) << what << ": scales";
  EXPECT_TRUE(same_numbers(found.zero, wanted.zero)) << what << ": zeros";
  EXPECT_TRUE(same_numbers(found.codebook, wanted.codebook)) << what << ": codebook";
  EXPECT_TRUE(same_numbers(found.sparse.end, wanted.sparse.end)) << what << ": ends of rows";
  EXPECT_TRUE(same_numbers(found.sparse.channel, wanted.sparse.channel)) << what << ": outliers' channels";
  EXPECT_TRUE(same_numbers(found.sparse.value, wanted.sparse.value)) << what << ": outliers";
  EXPECT_EQ(found.bytes(), wanted.bytes()) << what;
}

/// Every bit of float32 tensors of the host, zeros' signs included.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() &&
         std::memcmp(a.contiguous().const_data_ptr<float>(), b.contiguous().const_data_ptr<float>(), a.nbytes()) == 0;
}

/// [2, 32, 32] of sizes from subnormal to large, or one of the tensors that codecs find hard: numbers with many equal
/// ones among them, a few that float16 rounds together, zeros of both signs, all alike, one far from the others.
inline std::vector<at::Tensor> hard_tensors() {
  const at::Tensor x = at::randn({2, 32, 32});
  at::Tensor far = x.clone();
  far[1][5][7] = 3e4;
  at::Tensor signed_zeros = x.sign() * 0;
  return {x,
          x * at::logspace(-3, 2, 32),
          x * 1e-41,
          at::round(x),
          1000 + x * 0.1,
          signed_zeros,
          at::where(x > 1, x, signed_zeros),
          at::full({2, 32, 32}, -0.43F),
          far};
}

}  // namespace mla::test
