// Decoding from packed codes where they lie, against decoding from the tensors that they stand for.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/attention/decode_step.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/kv_cache/stream.h"
#include "core/ops/kernels.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

/// Of logits; one flipped code would show as more. Codes stand for numbers that are float32 in either dtype.
constexpr double tolerance(at::ScalarType dtype) { return dtype == at::kDouble ? 2e-5 : 2e-4; }

CacheFormat format_of(const Json& codec, UpdateRule rule, std::int64_t residual) {
  const std::shared_ptr<const Codec> made = Registry<Codec>::instance().make(codec, "codec");
  return [=](std::int64_t, const StreamShape& stream) -> StreamStorage {
    if (stream.name == "rope_key") return {};
    return {made->for_stream(stream.name, nullptr), {rule, residual, 0}};
  };
}

struct Trial {
  Decoder model;
  std::vector<int> bits;
};

/// The source model and three conversions. In float64 the codes are the same on every machine. In float32 what products
/// round off, which differs from one to the next, may flip one of many codes of 8 bits; and where keys are made or
/// rotated when they are read, any code.
std::vector<Trial> trials() {
  const Json pass = {{"name", "mha2mla"},
                     {"rope", {{"name", "high"}, {"pairs", 1}}},
                     {"low_rank", {{"name", "joint_svd"}, {"d_kv", 8}}}};
  const Json lorc = {{"name", "lorc"}, {"width", 16}, {"allocate", {{"name", "uniform"}}}};
  const Json reuse = {{"name", "mfa_kr"}, {"width", 16}, {"metric", "weights"}};
  std::vector<Trial> all;
  const auto add = [&](const Json& conversion, at::ScalarType dtype, const std::vector<int>& bits) {
    Decoder model = test::tiny_decoder(test::tiny_spec("gqa"), dtype);
    if (!conversion.is_null()) Registry<Pass>::instance().make(conversion, "compress[0]")->apply(model, {});
    all.push_back({std::move(model), bits});
  };
  for (const Json& each : {Json(), pass, lorc, reuse}) add(each, at::kDouble, {2, 4, 8});
  for (const Json& each : {Json(), pass}) add(each, at::kFloat, {2, 4});
  return all;
}

/// Logits of each of the last steps. Where a gradient is wanted, the kernel does not serve.
at::Tensor decode(Decoder& model, const CacheFormat& format, bool kernel, std::int64_t& bytes) {
  const at::AutoGradMode gradients(!kernel);
  model.embedding.to_dense().requires_grad_(!kernel);
  const at::Tensor ids = test::random_ids(model.spec(), 2, 30);
  DecoderCache cache = model.make_cache(2, format);
  std::vector<at::Tensor> logits = {model.forward_cached(ids.narrow(1, 0, 19), cache, DecodePath::kAbsorbed, {19, 12})};
  for (std::int64_t t = 19; t < 30; ++t) {
    EXPECT_EQ(decode_serves(model.embed(ids.narrow(1, t, 1)), cache.layer(0)), kernel && kernels_are_on());
    logits.push_back(model.forward_cached(ids.narrow(1, t, 1), cache, DecodePath::kAbsorbed));
  }
  EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
  bytes = cache.bytes();
  model.embedding.to_dense().requires_grad_(false);
  return at::stack(logits).detach();
}

TEST(PackedDecode, IsDecodingFromTheUnpackedCache) {
  for (auto& [model, widths] : trials()) {
    const at::ScalarType dtype = model.embedding.to_dense().scalar_type();
    for (const int bits : widths) {
      for (const std::int64_t residual : {0, 4}) {
        for (const UpdateRule rule : {UpdateRule::kAppendOnly, UpdateRule::kRequantize}) {
          if (rule == UpdateRule::kRequantize && residual == 0) continue;
          const CacheFormat format = format_of({{"name", "rtn"}, {"bits", bits}, {"group_size", 8}}, rule, residual);
          std::int64_t packed_bytes = 0, dense_bytes = 0, plain_bytes = 0;
          const at::Tensor packed = decode(model, format, true, packed_bytes);
          EXPECT_LT(test::largest_difference(packed, decode(model, format, false, dense_bytes)), tolerance(dtype))
              << dtype << " " << bits << " residual " << residual;
          EXPECT_EQ(packed_bytes, dense_bytes);
          const at::Tensor plain = decode(model, {}, true, plain_bytes);
          EXPECT_GT(test::largest_difference(packed, plain), bits == 8 ? 1e-5 : 1e-3) << "nothing was quantised";
        }
      }
    }
  }
}

}  // namespace
}  // namespace mla
