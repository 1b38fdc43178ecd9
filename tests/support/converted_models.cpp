#include "tests/support/converted_models.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/registry.h"
#include "tests/support/temporary_folder.h"

namespace mla::test {

std::unique_ptr<Pass> pass_of(const Json& config) { return Registry<Pass>::instance().make(config, "compress[0]"); }

PassedModel::PassedModel(const ModelSpec& spec, std::int64_t rows)
    : source(tiny_decoder(spec)), ids(random_ids(spec, 2, 14)) {
  const at::Tensor text = random_ids(spec, rows, 20, 11);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t* row = text.const_data_ptr<std::int64_t>() + i * text.size(1);
    calibration.emplace_back(row, row + text.size(1));
  }
}

Decoder PassedModel::after(const Json& config, PassReport* report) const {
  const auto pass = pass_of(config);
  Decoder decoder = source.clone();
  Statistics statistics;
  PassInputs inputs;
  inputs.arithmetic = at::kDouble;
  inputs.rows = &calibration;
  inputs.source = &source;
  if (!pass->requirements().empty()) statistics = calibrate(source, calibration, pass->requirements(), {}, {});
  inputs.statistics = &statistics;
  PassReport result = run_pass(config.at("name").get<std::string>(), *pass, decoder, inputs);
  if (report) *report = std::move(result);
  return decoder;
}

void PassedModel::expect_whole(const Decoder& decoder, const std::string& kind) const {
  const at::Tensor logits = decoder.forward(ids);
  for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
    DecoderCache cache = decoder.make_cache(2);
    at::Tensor last;
    for (std::int64_t i = 0; i < ids.size(1); ++i) last = decoder.forward_cached(ids.narrow(1, i, 1), cache, path);
    EXPECT_LT(largest_difference(last, logits.select(1, -1)), kSameLogits);
    EXPECT_EQ(cache.bytes(), 2 * 14 * cached_elements(decoder.spec()) * static_cast<std::int64_t>(sizeof(double)));
  }
  const TemporaryFolder folder;
  Checkpoint checkpoint = tiny_checkpoint(kind);
  checkpoint.decoder = decoder.clone();
  save_checkpoint(checkpoint, folder / "made");
  const Checkpoint loaded = load_checkpoint(folder / "made", {.placement = Placement::in(at::kDouble)});
  EXPECT_EQ(loaded.decoder.spec(), decoder.spec());
  EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), logits));
}

std::vector<std::string> linear_kinds() {
  std::vector<std::string> kinds = tiny_kinds();
  std::erase(kinds, "qk_norm");
  return kinds;
}

}  // namespace mla::test
