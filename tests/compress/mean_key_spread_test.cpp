// Latents that are mixed for codes: the same layer, of which codes lose less.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <map>

#include "core/base/registry.h"
#include "core/compress/calibration/layer_walk.h"
#include "core/quantize/codec.h"
#include "tests/support/pass_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

TEST(SpreadLatent, ChangesWhatIsCachedAndNotTheModel) {
  const at::NoGradGuard off;
  const Decoder source = test::tiny_decoder(test::tiny_spec("mha"));
  const TokenRowList rows = test::random_rows(source.spec(), 16, 20);
  const at::Tensor ids = test::random_ids(source.spec(), 2, 20);
  for (const char* layout : {"dual", "std", "plain"}) {
    Json pass = {{"name", "mkla"}, {"cached", 20}, {"pairs", 2}, {"layout", layout}, {"refit", false}};
    const Decoder plain = test::after_pass(source, pass, rows);
    pass["spread"] = true;
    const Decoder spread = test::after_pass(source, pass, rows);
    EXPECT_LT(test::largest_difference(plain.forward(ids), spread.forward(ids)), 1e-9) << layout;
    std::map<std::string, at::Tensor> maps;
    plain.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& x) { maps[name] = x; });
    spread.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& x) {
      if (name == "kv_down_proj.weight") {
        EXPECT_GT(test::largest_difference(x.narrow(0, 0, 16), maps[name].narrow(0, 0, 16)), 1e-3);
        EXPECT_EQ(test::largest_difference(x.narrow(0, 16, 4), maps[name].narrow(0, 16, 4)), 0) << "slots";
      }
    });
  }
}

/// Latents as wide as the model's keys and values, some of which matter far less than others.
TEST(SpreadLatent, LosesLessInCodes) {
  const at::NoGradGuard off;
  const Decoder source = test::tiny_decoder(test::tiny_spec("mha"));
  const TokenRowList rows = test::random_rows(source.spec(), 32, 20);
  at::Tensor input;
  LayerWalk(source, rows, {}).advance(Tap::kAttentionInput, [&](std::size_t, const at::Tensor& x) { input = x; });
  const auto codec = Registry<Codec>::instance().make({{"name", "rtn"}, {"bits", 4}}, "codec");
  double before = 0, after = 0;
  for (const bool spread : {false, true}) {
    const Decoder decoder = test::after_pass(
        source,
        {{"name", "mkla"}, {"cached", 32}, {"pairs", 0}, {"layout", "std"}, {"spread", spread}, {"refit", false}},
        rows);
    at::Tensor down, bias, up;
    decoder.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& x) {
      if (name == "kv_down_proj.weight") down = x;
      if (name == "kv_down_proj.bias") bias = x;
      if (name == "v_up_proj.weight") up = x;
    });
    const at::Tensor cached = (at::matmul(input, down.t()) + bias).unsqueeze(1).to(at::kFloat);
    const at::Tensor lost = decode(codec->encode(cached)).to(at::kDouble) - cached.to(at::kDouble);
    (spread ? after : before) = at::matmul(lost, up.t()).square().sum().item<double>();
  }
  EXPECT_LT(after, 0.9 * before);
}

}  // namespace
}  // namespace mla
