// GGUF files whose blocks are kept: what is computed, held, written and refused.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/block_weights.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/model/checkpoint.h"
#include "core/model/model_config.h"
#include "core/ops/encode_blocks.h"
#include "core/ops/rounded_rows.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_models.h"
#include "tests/support/gguf_of_checkpoint.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::message_of;
using test::TemporaryFolder;
using testing::HasSubstr;

/// Of logits, relative to all of them: rows that 8 bits stand for; and sums in another order, by which single codes of
/// rows flip.
constexpr double kRoundedLogits = 0.05, kSameRoundedLogits = 0.02;

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

const LoadOptions kPacked{.placement = {}, .weights = HeldWeights::kPacked};

class PackedGguf : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  const std::string kind = std::get<0>(GetParam()), blocks = std::get<1>(GetParam());
  TemporaryFolder folder;
  std::filesystem::path path =
      folder.write("model.gguf", test::gguf_of(test::tiny_checkpoint(kind, at::kFloat), blocks).bytes());
  at::Tensor ids = test::random_ids(test::tiny_spec(kind), 2, 20);
};

TEST_P(PackedGguf, HoldsTheBlocksOfTheFile) {
  const Checkpoint dense = load_checkpoint(path), packed = load_checkpoint(path, kPacked);
  EXPECT_EQ(load_spec(path, HeldWeights::kPacked), packed.decoder.spec());
  EXPECT_EQ(load_spec(path), dense.decoder.spec());
  EXPECT_LT(packed.decoder.weight_bytes(), dense.decoder.weight_bytes() / 2);
  EXPECT_EQ(packed.decoder.weight_bytes(), packed.decoder.predicted_weight_bytes());
  EXPECT_EQ(packed.decoder.parameter_count(), dense.decoder.parameter_count());
  std::map<std::string, at::Tensor> matrices;
  const auto note = [&](const std::string& name, Linear& map) {
    if (!map.defined()) return;
    const bool kept = map.columns() % 32 == 0;  // 48 columns are no whole blocks, and so float32 in the file
    EXPECT_EQ(map.storage() != nullptr, kept) << name;
    EXPECT_TRUE(at::equal(map.to_dense(), matrices.at(name))) << name;
  };
  const auto nothing = [](const std::string&, at::Tensor&) {};
  const_cast<Decoder&>(dense.decoder)
      .visit_weights({[&](const std::string& name, Linear& map) { matrices[name] = map.to_dense(); }, nothing});
  const_cast<Decoder&>(packed.decoder).visit_weights({note, nothing});
  // Shapes alone are the same.
  const Checkpoint shapes =
      load_checkpoint(path, {.placement = {}, .weights = HeldWeights::kPacked, .check_finite = false, .values = false});
  EXPECT_EQ(shapes.decoder.spec(), packed.decoder.spec());
  EXPECT_EQ(shapes.decoder.predicted_weight_bytes(), packed.decoder.weight_bytes());
}

TEST_P(PackedGguf, ComputesWithRoundedRows) {
  const at::NoGradGuard no_grad;
  const Decoder dense = load_checkpoint(path).decoder, packed = load_checkpoint(path, kPacked).decoder;
  const at::Tensor expected = dense.forward(ids), logits = packed.forward(ids);
  const double off = relative_difference(logits, expected);
  EXPECT_LT(off, kRoundedLogits);
  EXPECT_GT(off, 0);
  // Token by token to the same, through a cache.
  DecoderCache cache = packed.make_cache(2);
  at::Tensor last = packed.forward_cached(ids.narrow(1, 0, 6), cache);
  for (std::int64_t t = 6; t < ids.size(1); ++t) last = packed.forward_cached(ids.narrow(1, t, 1), cache);
  EXPECT_LT(relative_difference(last, logits.select(1, ids.size(1) - 1)), kSameRoundedLogits);
  // float64 asks for exact arithmetic, as a gradient does.
  const Decoder wide =
      load_checkpoint(path, {.placement = Placement::in(at::kDouble), .weights = HeldWeights::kPacked}).decoder;
  const Decoder wide_dense = load_checkpoint(path, {.placement = Placement::in(at::kDouble)}).decoder;
  EXPECT_LT(test::largest_difference(wide.forward(ids), wide_dense.forward(ids)), 1e-9);
}

TEST_P(PackedGguf, IsSavedAndLoaded) {
  const at::NoGradGuard no_grad;
  const Checkpoint packed = load_checkpoint(path, kPacked);
  save_checkpoint(packed, folder / "out");
  const Checkpoint loaded = load_checkpoint(folder / "out");
  EXPECT_EQ(loaded.decoder.spec(), packed.decoder.spec());
  EXPECT_EQ(loaded.decoder.weight_bytes(), packed.decoder.weight_bytes());
  EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), packed.decoder.forward(ids)));
  EXPECT_THAT(message_of<ConfigError>([&] { load_checkpoint(folder / "out", kPacked); }),
              testing::AllOf(HasSubstr("weights = packed"), HasSubstr("no GGUF file")));
}

INSTANTIATE_TEST_SUITE_P(Kinds, PackedGguf,
                         testing::Combine(testing::ValuesIn(test::tiny_kinds()), testing::Values("Q8_0", "Q4_1")));

TEST(PackedGgufFile, WithoutSuchBlocksIsRefused) {
  const TemporaryFolder folder;
  const auto path = folder.write("model.gguf", test::gguf_of(test::tiny_checkpoint("gqa", at::kFloat)).bytes());
  const std::string message = message_of<ConfigError>([&] { load_checkpoint(path, kPacked); });
  EXPECT_THAT(message, HasSubstr("weights = packed"));
  EXPECT_THAT(message, HasSubstr("only blocks of Q8_0, Q4_0, Q4_1, Q4_K, Q6_K"));
  EXPECT_EQ(message, message_of<ConfigError>([&] { load_spec(path, HeldWeights::kPacked); }));
}

TEST(PackedGgufFile, InfiniteScalesAreRefused) {
  const TemporaryFolder folder;
  const Checkpoint saved = test::tiny_checkpoint("gqa", at::kFloat);
  std::string bytes = test::gguf_of(saved, "Q8_0").bytes();
  const at::Tensor row = saved.decoder.embedding.to_dense().narrow(0, 7, 1).contiguous(),
                   block = encode_blocks(*find_block_format("Q8_0"), row);
  const std::size_t at = bytes.find({static_cast<const char*>(block.const_data_ptr()), block.nbytes()});
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 2, std::string("\x00\x7C", 2));
  const auto broken = folder.write("broken.gguf", bytes);
  EXPECT_THAT(message_of<DataError>([&] { load_checkpoint(broken, kPacked); }), HasSubstr("infinite"));
}

TEST(BlockStorage, StatesWhatItHolds) {
  const auto make = [](const Json& config) { return Registry<WeightStorage>::instance().make(config, "storage"); };
  const auto storage = make({{"name", "gguf"}, {"type", "Q4_K"}});
  EXPECT_EQ(storage->fields(), (Json{{"type", "Q4_K"}}));
  EXPECT_EQ(storage->description(), "Q4_K blocks");
  EXPECT_THAT(message_of<ConfigError>([&] {
                storage->check({8, 300}, "here");
              }),
              HasSubstr("here: 300 columns are no multiple of 256"));
  EXPECT_NO_THROW(make({{"name", "gguf"}, {"type", "Q4_1"}})->check({8, 300}, "here"));
  EXPECT_THAT(message_of<ConfigError>([&] {
                make({{"name", "gguf"}, {"type", "Q5_K"}});
              }),
              HasSubstr("storage.type = Q5_K: known: Q8_0, Q4_0, Q4_1, Q4_K, Q6_K"));
  EXPECT_FALSE(storage->is_factored());
}

TEST(BlockStorage, GradientsGoThroughTheDecodedMatrix) {
  const Linear dense(at::randn({20, 64}), at::randn({20})), held = hold_as_blocks(dense, *find_block_format("Q8_0"));
  at::Tensor x = at::randn({5, 64}).requires_grad_(true);
  EXPECT_FALSE(held.multiplies_codes(x));
  EXPECT_TRUE(held.multiplies_codes(x.detach()));
  held(x).sum().backward();
  EXPECT_TRUE(at::allclose(x.grad(), held.to_dense().sum(0).expand({5, 64})));
  EXPECT_TRUE(at::equal(held(x), Linear(held.to_dense(), dense.bias())(x)));
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(at::equal(held(x), Linear(held.to_dense(), dense.bias())(x)));
  EXPECT_LT(test::largest_difference(held(x), at::linear(rounded_values(x.detach()), held.to_dense(), dense.bias())),
            1e-4);
  // Beside others, biases included.
  const std::vector<at::Tensor> both = project_together({&held, &held}, x),
                                mixed = project_together({&held, &dense}, x);
  EXPECT_TRUE(at::equal(both[0], held(x)) && at::equal(both[1], held(x)));
  EXPECT_TRUE(at::equal(mixed[0], held(x)) && at::equal(mixed[1], dense(x)));
}

}  // namespace
}  // namespace mla
