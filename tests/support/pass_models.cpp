#include "tests/support/pass_models.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla::test {
namespace {

constexpr double kSameWhole = 1e-9;

}  // namespace

std::unique_ptr<Pass> pass_of(const Json& config) { return Registry<Pass>::instance().make(config, "compress[0]"); }

std::string refusal_of(const Json& config, const ModelSpec& spec) {
  return message_of<ConfigError>([&] { pass_of(config)->plan(spec); });
}

TokenRowList random_rows(const ModelSpec& spec, std::int64_t rows, std::int64_t length, std::uint64_t seed) {
  TokenRowList all;
  const at::Tensor text = random_ids(spec, rows, length, seed);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t* row = text.const_data_ptr<std::int64_t>() + i * length;
    all.emplace_back(row, row + length);
  }
  return all;
}

Decoder after_pass(const Decoder& source, const Json& config, const TokenRowList& rows, PassReport* report) {
  const auto pass = pass_of(config);
  Decoder decoder = source.clone();
  PassInputs inputs;
  Statistics statistics;
  if (!pass->requirements().empty()) statistics = calibrate(source, rows, pass->requirements(), {}, {});
  inputs.statistics = &statistics;
  inputs.rows = &rows;
  inputs.source = &source;
  inputs.arithmetic = at::kDouble;
  PassReport result = run_pass(config.at("name").get<std::string>(), *pass, decoder, inputs);
  if (report) *report = std::move(result);
  return decoder;
}

void expect_whole(const Decoder& decoder, const std::string& kind, const at::Tensor& ids) {
  const std::int64_t batch = ids.size(0), length = ids.size(1);
  const at::Tensor logits = decoder.forward(ids);
  const std::int64_t elements = cached_elements(decoder.spec());
  for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
    DecoderCache cache = decoder.make_cache(batch);
    at::Tensor last;
    for (std::int64_t i = 0; i < length; ++i) last = decoder.forward_cached(ids.narrow(1, i, 1), cache, path);
    EXPECT_LT(largest_difference(last, logits.select(1, -1)), kSameWhole);
    EXPECT_EQ(cache.bytes(), batch * length * elements * static_cast<std::int64_t>(sizeof(double)));
  }
  const TemporaryFolder folder;
  Checkpoint checkpoint = tiny_checkpoint(kind);
  checkpoint.decoder = decoder.clone();
  save_checkpoint(checkpoint, folder / "made");
  const Checkpoint loaded = load_checkpoint(folder / "made", {.placement = Placement::in(at::kDouble)});
  EXPECT_EQ(loaded.decoder.spec(), decoder.spec());
  EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), logits));
}

}  // namespace mla::test
