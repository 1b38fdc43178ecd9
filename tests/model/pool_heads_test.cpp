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
  const Geometry geometry = test::tiny_geometry(GetParam());
  const Decoder source = test::tiny_decoder(geometry, at::kFloat);
  const at::Tensor ids = test::random_ids(geometry, 2, 12);
  EXPECT_TRUE(pool_kv_heads(source, geometry).forward(ids).equal(source.forward(ids)));
}

TEST_P(PoolHeads, EqualHeadsArePooledWithoutLoss) {
  const Geometry source_geometry = test::tiny_geometry(GetParam());
  if (source_geometry.kv_heads < 2) GTEST_SKIP() << "one KV head cannot be pooled";
  Geometry geometry = source_geometry;
  geometry.kv_heads /= 2;
  Decoder source = test::tiny_decoder(source_geometry, at::kFloat);
  source.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name.find(".k_proj.") == std::string::npos && name.find(".v_proj.") == std::string::npos) return;
    const at::Tensor heads = tensor.view({geometry.kv_heads, 2, -1});
    heads.select(1, 1).copy_(heads.select(1, 0));
  });
  const at::Tensor ids = test::random_ids(geometry, 2, 12);
  const Decoder pooled = pool_kv_heads(source, geometry);
  EXPECT_EQ(pooled.parameter_count(), count_parameters(geometry).total());
  EXPECT_LT(test::largest_difference(pooled.forward(ids), source.forward(ids)), kPooledTolerance);
}

INSTANTIATE_TEST_SUITE_P(Kinds, PoolHeads, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(PoolHeadsInput, ShapesThatDifferAreNamed) {
  const Geometry geometry = test::tiny_geometry("mha");
  const Decoder source = test::tiny_decoder(geometry);
  Geometry wider = geometry;
  wider.hidden = 64;
  EXPECT_THAT(test::message_of<ConfigError>([&] { pool_kv_heads(source, wider); }),
              HasSubstr("hidden_size = 64: the model to begin from has 32"));
  Geometry three = geometry;
  three.kv_heads = 3;
  EXPECT_THAT(test::message_of<ConfigError>([&] { pool_kv_heads(source, three); }),
              HasSubstr("num_key_value_heads = 3: does not divide the 4 of the model to begin from"));
}

}  // namespace
}  // namespace mla
