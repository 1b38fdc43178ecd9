// Conversion of models that are larger than memory: what it holds does not grow with the number of layers.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/model/family.h"
#include "core/model/save_in_shards.h"
#include "tests/support/run_program.h"
#include "tests/support/sanitizers.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::ProgramResult;
using test::run_script;

// Several files of results in both, so that what one of them takes counts in neither.
constexpr std::int64_t kFewLayers = 6, kManyLayers = 18;

ModelSpec spec_with(std::int64_t layers) {
  UniformModel uniform = test::tiny_model("mha");
  uniform.layers = layers;
  uniform.model.hidden = 512;
  uniform.model.rope_dim = 64;
  uniform.feed_forward.width = 1024;
  uniform.heads.heads = uniform.heads.kv_heads = 8;
  uniform.heads.head_dim = 64;
  return uniform.spec();
}

class LargeModel : public testing::Test {
 protected:
  /// Bytes of the source's weights.
  std::int64_t write_model(std::int64_t layers) const {
    const ModelSpec spec = spec_with(layers);
    const Checkpoint checkpoint{test::tiny_decoder(spec, at::kFloat), make_config(spec), {}};
    save_checkpoint(checkpoint, folder_ / cat("model", layers), 8'000'000);
    return checkpoint.decoder.weight_bytes();
  }
  std::int64_t peak(std::int64_t layers, const std::string& flags) const {
    const ProgramResult result = run_script(cat(
        "OMP_NUM_THREADS=1 mlaforge convert --json --quiet --max-shard-size 20MB --model ",
        (folder_ / cat("model", layers)).string(), " --output ", (folder_ / cat("out", layers)).string(), " ", flags));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(std::filesystem::exists(folder_ / cat("out", layers, "/model.safetensors.index.json")));
    return result.json()["peak_memory_bytes"].get<std::int64_t>();
  }

  test::TemporaryFolder folder_;
};

// Both of what is read and of what is made. A quarter is left for what the system and the allocator do not give back.
TEST_F(LargeModel, IsConvertedInTheMemoryOfALayer) {
  if (test::kSanitized) GTEST_SKIP() << "sanitizers change time and memory";
  const std::int64_t few = write_model(kFewLayers), many = write_model(kManyLayers), more = many - few;
  ASSERT_GT(more, 60'000'000);
  const std::string latent = "--rope high --pairs 8 --low-rank joint_svd --d-kv 64";
  EXPECT_LT(peak(kManyLayers, latent) - peak(kFewLayers, latent), more / 4);
  const auto ids = folder_.write("ids.json", R"({"ids": [[1, 5, 9, 40, 7, 20, 33, 12], [3, 4, 5, 6]]})");
  const std::string measured = "--rope two_norm --pairs 8 --low-rank value_svd --d-kv 64 --calibration " + ids.string();
  EXPECT_LT(peak(kManyLayers, measured) - peak(kFewLayers, measured), more / 4);
}

}  // namespace
}  // namespace mla
