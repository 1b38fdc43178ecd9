#include "core/model/pool_heads.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kPooledTolerance = 1e-5;

class PoolHeads : public testing::TestWithParam<std::string> {};

TEST_P(PoolHeads, AsManyHeadsAreTheSameModel) {
  const ModelSpec spec = test::tiny_spec(GetParam());
  const Decoder source = test::tiny_decoder(spec, at::kFloat);
  const at::Tensor ids = test::random_ids(spec, 2, 12);
  EXPECT_TRUE(pool_kv_heads(source, spec).forward(ids).equal(source.forward(ids)));
}

TEST_P(PoolHeads, EqualHeadsArePooledWithoutLoss) {
  const ModelSpec source_spec = test::tiny_spec(GetParam());
  UniformModel fewer = test::tiny_model(GetParam());
  if (fewer.heads.kv_heads < 2) GTEST_SKIP() << "one KV head cannot be pooled";
  fewer.heads.kv_heads /= 2;
  const ModelSpec spec = fewer.spec();
  Decoder source = test::tiny_decoder(source_spec, at::kFloat);
  source.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name.find(".k_proj.") == std::string::npos && name.find(".v_proj.") == std::string::npos) return;
    const at::Tensor heads = tensor.view({fewer.heads.kv_heads, 2, -1});
    heads.select(1, 1).copy_(heads.select(1, 0));
  });
  const at::Tensor ids = test::random_ids(spec, 2, 12);
  const Decoder pooled = pool_kv_heads(source, spec);
  EXPECT_EQ(pooled.parameter_count(), count_parameters(spec).total());
  EXPECT_LT(test::largest_difference(pooled.forward(ids), source.forward(ids)), kPooledTolerance);
}

INSTANTIATE_TEST_SUITE_P(Kinds, PoolHeads, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(PoolHeadsInput, ShapesThatDifferAreNamed) {
  const ModelSpec spec = test::tiny_spec("mha");
  const Decoder source = test::tiny_decoder(spec);
  ModelSpec wider = spec;
  wider.hidden = 64;
  EXPECT_THAT(test::message_of<ConfigError>([&] { pool_kv_heads(source, wider); }),
              HasSubstr("hidden_size = 64: the model to begin from has 32"));
  UniformModel three = test::tiny_model("mha");
  three.heads.kv_heads = 3;
  EXPECT_THAT(test::message_of<ConfigError>([&] { pool_kv_heads(source, three.spec()); }),
              HasSubstr("num_key_value_heads = 3: does not divide the 4 of the model to begin from"));
}

}  // namespace
}  // namespace mla
