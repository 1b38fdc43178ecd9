// Weights that stand in files while a model is worked on, and the files that large models are written to.
#include "core/model/weight_pages.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/model/save_in_shards.h"
#include "core/model/weight_files.h"
#include "tests/support/errors.h"
#include "tests/support/small_files.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::ElementsAre;

bool is_shelved(const at::Tensor& tensor) { return is_mapped(tensor.const_data_ptr(), tensor.nbytes()); }

TEST(WeightShelf, KeepsValuesStridesAndTypes) {
  const test::TemporaryFolder folder;
  WeightShelf shelf(folder / "not/yet/there");
  const at::Tensor wide = at::randn({200, 300}), turned = at::randn({300, 200}).t(),
                   part = at::randn({400, 300}).narrow(1, 0, 200), narrow = wide.to(at::kBFloat16);
  for (const at::Tensor& tensor : {wide, turned, part, narrow}) {
    const at::Tensor kept = shelf.shelve(tensor);
    EXPECT_TRUE(is_shelved(kept));
    EXPECT_TRUE(at::equal(kept, tensor));
    EXPECT_EQ(kept.scalar_type(), tensor.scalar_type());
    if (tensor.is_non_overlapping_and_dense()) {
      EXPECT_EQ(kept.strides(), tensor.strides());
    }
    EXPECT_EQ(shelf.shelve(kept).const_data_ptr(), kept.const_data_ptr()) << "a second copy";
  }
  EXPECT_FALSE(is_shelved(shelf.shelve(at::randn({10})))) << "not worth it";
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(WeightShelf, TakesALayerAndLeavesTheFunction) {
  const test::TemporaryFolder folder;
  UniformModel model = test::tiny_model("gqa");
  model.model.hidden = 128;
  model.feed_forward.width = 160;
  Decoder decoder = test::tiny_decoder(model.spec());
  const at::Tensor ids = test::random_ids(decoder.spec(), 2, 9), before = decoder.forward(ids);
  WeightShelf shelf(folder.path());
  shelf.shelve_layer(decoder, 1);
  EXPECT_TRUE(is_shelved(decoder.layers[1].gate.to_dense()));
  EXPECT_FALSE(is_shelved(decoder.layers[0].gate.to_dense()));
  EXPECT_TRUE(at::equal(decoder.forward(ids), before));
  release_layer(decoder, 1);
  release_layer(decoder, 0);
  EXPECT_TRUE(at::equal(decoder.forward(ids), before));
}

std::vector<std::string> weight_files(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("model")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(WeightShards, AreReadAsTheOneFileIs) {
  const test::TemporaryFolder folder;
  const Checkpoint saved = test::tiny_checkpoint("gqa", at::kFloat);
  const std::int64_t bytes = saved.decoder.weight_bytes();
  save_checkpoint(saved, folder.path(), bytes);
  EXPECT_THAT(weight_files(folder.path()), ElementsAre("model.safetensors"));
  save_checkpoint(saved, folder.path(), bytes / 3);
  const std::vector<std::string> files = weight_files(folder.path());
  ASSERT_GE(files.size(), 4u);
  EXPECT_EQ(files.back(), "model.safetensors.index.json");
  const std::string count = files[0].substr(files[0].size() - std::string("00001.safetensors").size(), 5);
  EXPECT_EQ(std::stoul(count), files.size() - 1);
  std::int64_t in_files = 0;
  for (std::size_t i = 0; i + 1 < files.size(); ++i) {
    std::int64_t in_one = 0;
    for (const auto& [name, tensor] : read_safetensors(folder / files[i]))
      in_one += static_cast<std::int64_t>(tensor.nbytes());
    EXPECT_LE(in_one, bytes / 3);
    in_files += in_one;
  }
  EXPECT_EQ(in_files, bytes);
  EXPECT_EQ(read_json(folder / files.back())["metadata"]["total_size"], bytes);
  const Checkpoint loaded = load_checkpoint(folder.path());
  const at::Tensor ids = test::random_ids(saved.decoder.spec(), 2, 20);
  EXPECT_TRUE(at::equal(saved.decoder.forward(ids), loaded.decoder.forward(ids)));
}

TEST(WeightShards, OfAnEarlierModelDoNotStay) {
  const test::TemporaryFolder folder;
  const Checkpoint saved = test::tiny_checkpoint("mha", at::kFloat);
  save_checkpoint(saved, folder.path(), 1);
  const std::size_t one_each = weight_files(folder.path()).size();
  save_checkpoint(saved, folder.path(), saved.decoder.weight_bytes() / 2);
  EXPECT_LT(weight_files(folder.path()).size(), one_each);
  load_checkpoint(folder.path());
  folder.write("model-of-mine.safetensors", "not ours");
  save_checkpoint(saved, folder.path());
  EXPECT_THAT(weight_files(folder.path()), ElementsAre("model-of-mine.safetensors", "model.safetensors"));
  load_checkpoint(folder.path());
}

// Converting a model into its own folder reads the old shards while the new ones are written.
TEST(WeightShards, MayReplaceThoseThatTheyAreMadeOf) {
  const test::TemporaryFolder folder;
  const Checkpoint saved = test::tiny_checkpoint("gqa", at::kFloat);
  const std::int64_t third = saved.decoder.weight_bytes() / 3;
  save_checkpoint(saved, folder.path(), third);
  Placement as_held;
  as_held.storage = std::nullopt;
  save_checkpoint(load_checkpoint(folder.path(), {.placement = as_held}), folder.path(), third / 2);
  const at::Tensor ids = test::random_ids(saved.decoder.spec(), 1, 8);
  EXPECT_TRUE(at::equal(saved.decoder.forward(ids), load_checkpoint(folder.path()).decoder.forward(ids)));
}

TEST(WeightShards, AFullDiskLeavesTheOldModel) {
  const test::TemporaryFolder folder;
  const Checkpoint saved = test::tiny_checkpoint("gqa", at::kFloat);
  save_checkpoint(saved, folder.path());
  {
    const test::SmallFilesOnly limit(4096);
    EXPECT_THAT(test::message_of<DataError>([&] { save_checkpoint(saved, folder.path(), 6000); }),
                testing::HasSubstr("cannot be written"));
  }
  EXPECT_THAT(weight_files(folder.path()), ElementsAre("model.safetensors"));
  load_checkpoint(folder.path());
}

}  // namespace
}  // namespace mla
