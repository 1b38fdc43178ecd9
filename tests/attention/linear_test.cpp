// Linear maps in their storages: products, parameters, bytes, names.
#include "core/attention/linear.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/model/family.h"
#include "core/model/model_config.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kSameFactors = 1e-12, kSameFactoredModel = 1e-10;
constexpr std::int64_t kFactorRank = 3;

std::shared_ptr<const WeightStorage> make_storage(const Json& config) {
  return Registry<WeightStorage>::instance().make(config, "storage");
}

Linear low_rank_map(std::int64_t rows, std::int64_t columns, bool biased) {
  return {make_storage({{"name", "low_rank"}, {"rank", kFactorRank}}),
          {rows, columns},
          {at::randn({kFactorRank, columns}, at::kDouble), at::randn({rows, kFactorRank}, at::kDouble)},
          biased ? at::randn({rows}, at::kDouble) : at::Tensor()};
}

std::vector<std::string> visited_names(Linear& map, bool stored) {
  std::vector<std::string> names;
  const auto note = [&](const std::string& name, at::Tensor&) { names.push_back(name); };
  if (stored)
    map.visit_stored("m", note);
  else
    map.visit("m", note);
  return names;
}

TEST(Linear, FactorsGiveTheProductWithTheirProduct) {
  const at::NoGradGuard no_grad;
  for (const bool biased : {false, true}) {
    const Linear map = low_rank_map(10, 12, biased);
    for (const std::int64_t tokens : {1, 5, 40}) {
      const at::Tensor x = at::randn({2, tokens, 12}, at::kDouble);
      const at::Tensor expected = Linear(map.to_dense(), map.bias())(x);
      EXPECT_LT(test::largest_difference(map(x), expected), kSameFactors);
      // Beside a dense map.
      const Linear dense(at::randn({4, 12}, at::kDouble));
      const std::vector<at::Tensor> together = project_together({&dense, &map}, x);
      EXPECT_TRUE(at::equal(together[0], dense(x)));
      EXPECT_TRUE(at::equal(together[1], map(x)));
    }
    EXPECT_TRUE(at::equal(map.rows_at(at::tensor({3, 0}, at::kLong)),
                          map.to_dense().index_select(0, at::tensor({3, 0}, at::kLong))));
  }
}

TEST(Linear, FactorsAreItsParameters) {
  Linear map = low_rank_map(10, 12, true);
  EXPECT_EQ(map.parameters(), kFactorRank * (10 + 12) + 10);
  EXPECT_EQ(map.bytes(), 8 * map.parameters());
  EXPECT_THAT(visited_names(map, false), ElementsAre("m.down.weight", "m.up.weight", "m.bias"));
  EXPECT_EQ(visited_names(map, false), visited_names(map, true));
  std::vector<at::Tensor> leaves;
  map.visit("m", [&](const std::string&, at::Tensor& tensor) { leaves.push_back(tensor.requires_grad_(true)); });
  const at::Tensor x = at::randn({6, 12}, at::kDouble), weight = map.to_dense().detach();
  map(x).sum().backward();
  const at::Tensor ones = at::ones({6, 10}, at::kDouble);
  EXPECT_LT(test::largest_difference(leaves[1].grad(), ones.t().mm(x.mm(leaves[0].detach().t()))), kSameFactors);
  EXPECT_LT(test::largest_difference(leaves[2].grad(), ones.sum(0)), kSameFactors);
}

TEST(Linear, CodesAreHeldAndNotTrained) {
  Linear map(make_storage({{"name", "packed"}, {"bits", 4}, {"group_size", 6}}), {2, 6},
             {at::full({2, 3}, 0x21, at::kByte), at::full({2, 1}, 0.5F), at::full({2, 1}, -1.0F)}, at::ones({2}));
  EXPECT_THAT(visited_names(map, true), ElementsAre("m.codes", "m.scales", "m.zeros", "m.bias"));
  EXPECT_THAT(visited_names(map, false), ElementsAre("m.bias"));
  EXPECT_EQ(map.parameters(), 2 * 6 + 2);
  EXPECT_EQ(map.bytes(), 2 * 3 + 2 * 2 * 4 + 2 * 4);
  // The low half of a byte comes first: codes 1 and 2.
  EXPECT_TRUE(at::equal(map.to_dense()[0], at::tensor({-0.5F, 0.0F, -0.5F, 0.0F, -0.5F, 0.0F})));
  EXPECT_EQ(map.scalar_type(), at::kFloat);
  EXPECT_EQ(map.options().dtype(), at::kFloat);
  Linear copy = map.clone();
  copy.visit_stored("m", [](const std::string& name, at::Tensor& tensor) {
    if (name == "m.codes") tensor.zero_();
  });
  EXPECT_FALSE(at::equal(copy.to_dense(), map.to_dense()));
}

TEST(Linear, PartsMustBeThoseThatAreStated) {
  const auto make = [](const at::Tensor& codes, const at::Tensor& scales) {
    return Linear(make_storage({{"name", "packed"}, {"bits", 8}, {"group_size", 6}}), {2, 6}, {codes, scales, scales},
                  {});
  };
  const at::Tensor codes = at::zeros({2, 6}, at::kByte), scales = at::ones({2, 1});
  EXPECT_NO_THROW(make(codes, scales));
  EXPECT_THROW(make(codes.narrow(1, 0, 5), scales), std::logic_error);
  EXPECT_THROW(make(codes.to(at::kInt), scales), std::logic_error);
  EXPECT_THROW(make(codes, scales.to(at::kHalf)), std::logic_error);
}

/// A model whose maps of one kind are factors.
Decoder with_factors(const ModelSpec& spec, const std::string& which) {
  Decoder decoder = test::tiny_decoder(spec);
  decoder.replace_maps([&](const std::string& name, Linear& map) {
    if (name.find(which) == std::string::npos) return;
    map = {make_storage({{"name", "low_rank"}, {"rank", kFactorRank}}),
           {map.rows(), map.columns()},
           {at::randn({kFactorRank, map.columns()}, at::kDouble) * 0.3,
            at::randn({map.rows(), kFactorRank}, at::kDouble) * 0.3},
           map.bias()};
  });
  return decoder;
}

TEST(Linear, AModelOfFactorsIsItsDenseTwinAndIsSavedAndLoaded) {
  const at::NoGradGuard no_grad;
  for (const char* kind : {"gqa", "biases"}) {
    for (const char* which : {"self_attn", "mlp", "up_proj"}) {
      SCOPED_TRACE(cat(kind, " ", which));
      Checkpoint checkpoint = test::tiny_checkpoint(kind);
      checkpoint.decoder = with_factors(checkpoint.decoder.spec(), which);
      const Decoder& decoder = checkpoint.decoder;
      Decoder twin = decoder.clone();
      twin.replace_maps([](const std::string&, Linear& map) {
        if (map.storage()) map = Linear(map.to_dense(), map.bias());
      });
      const at::Tensor ids = test::random_ids(decoder.spec(), 2, 9), logits = decoder.forward(ids);
      EXPECT_LT(test::largest_difference(logits, twin.forward(ids)), kSameFactoredModel);
      EXPECT_EQ(decoder.parameter_count(), count_parameters(decoder.spec()).total());
      EXPECT_EQ(decoder.weight_bytes(), 8 * decoder.parameter_count());
      EXPECT_EQ(decoder.weight_bytes(), decoder.predicted_weight_bytes());
      const test::TemporaryFolder folder;
      save_checkpoint(checkpoint, folder.path());
      const Checkpoint loaded = load_checkpoint(folder.path(), {.placement = Placement::in(at::kDouble)});
      EXPECT_EQ(loaded.decoder.spec(), decoder.spec());
      EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), logits));
    }
  }
}

TEST(Linear, TablesAreNotFactors) {
  Checkpoint checkpoint = test::tiny_checkpoint("gqa");
  checkpoint.decoder = with_factors(checkpoint.decoder.spec(), "embed_tokens");
  EXPECT_THAT(test::message_of<DataError>(
                  [&] { write_model_config(checkpoint.decoder.spec(), checkpoint.config, "config.json"); }),
              HasSubstr("model.embed_tokens: embedding and output matrix are not held as factors"));
  EXPECT_THAT(test::message_of<ConfigError>([&] {
                make_storage({{"name", "low_rank"}, {"rank", 0}});
              }),
              HasSubstr("storage.rank = 0"));
  EXPECT_THAT(test::message_of<ConfigError>([&] {
                make_storage({{"name", "low_rank"}, {"rank", 9}})->check({8, 20}, "here");
              }),
              HasSubstr("here.rank = 9: a matrix of 8 x 20 has a rank of at most 8"));
}

}  // namespace
}  // namespace mla
