// Latent attention over random shapes: absorbed = expanded = uncached, whatever the rank, the pairs and the biases.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/kv_cache/stream.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kPathsDoubleTolerance = 1e-10, kPathsFloatTolerance = 1e-4;

at::Tensor normal(RandomStream& stream, std::vector<std::int64_t> shape, double scale) {
  at::Tensor tensor = at::empty(shape, at::kDouble);
  double* data = tensor.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) data[i] = scale * stream.normal();
  return tensor;
}

/// A layer of a random shape: any pairs, any ranks, one or many rotated keys, with or without low rank and biases.
std::unique_ptr<LatentAttention> random_layer(RandomStream& stream, at::ScalarType dtype, ModelFrame& frame,
                                              HeadFields& g) {
  const auto below = [&](std::uint64_t count) { return static_cast<std::int64_t>(stream.below(count)); };
  frame = {};
  frame.hidden = 16;
  frame.rope_dim = 8;
  frame.max_positions = 64;
  g = {};
  g.kv_heads = 1 + below(3);
  g.heads = g.kv_heads * (1 + below(4));
  g.head_dim = 8;
  g.window = below(3) == 0 ? 1 + below(9) : 0;
  LatentLayout layout;
  const std::int64_t pairs = below(5), rope_heads = below(3) == 0 ? 1 : g.kv_heads;
  for (std::int64_t head = 0; head < rope_heads; ++head) {
    std::vector<std::int64_t> kept;
    for (std::int64_t pair = 0; pair < pairs; ++pair) kept.push_back((head + pair) % 4);
    layout.kept.push_back(kept);
  }
  layout.content_width = below(4) == 0 ? 0 : g.head_dim - 2 * pairs + below(2);
  if (pairs == 0 && layout.content_width == 0) layout.content_width = 5;
  layout.value_width = 3 + below(8);
  const bool key_up = below(4) > 0, value_up = below(4) > 0, joint = key_up && value_up && below(2) > 0;
  const std::int64_t key_rank = key_up ? 1 + below(20) : g.kv_heads * layout.content_width;
  const std::int64_t value_rank = joint ? key_rank : value_up ? 1 + below(20) : g.kv_heads * layout.value_width;
  layout.key = {0, key_rank};
  layout.value = {joint ? 0 : key_rank, value_rank};
  layout.latent_width = joint ? key_rank : key_rank + value_rank;
  const auto matrix = [&](std::int64_t rows, std::int64_t columns) {
    return normal(stream, {rows, columns}, 0.3).to(dtype);
  };
  const auto bias = [&](std::int64_t rows) { return below(2) ? normal(stream, {rows}, 0.5).to(dtype) : at::Tensor(); };
  LatentAttention::Weights w;
  const std::int64_t rope = layout.rope_width(), query_rows = g.heads * (rope + layout.content_width);
  w.query = {matrix(query_rows, frame.hidden), bias(query_rows)};
  w.rope_key = {matrix(rope_heads * rope, frame.hidden), bias(rope_heads * rope)};
  w.down = {matrix(layout.latent_width, frame.hidden), {}};
  const auto up = [&](bool there, std::int64_t rows, std::int64_t rank) -> Linear {
    const at::Tensor weight = there ? matrix(rows, rank) : at::Tensor();
    return {weight, bias(rows)};
  };
  w.key_up = up(key_up, g.kv_heads * layout.content_width, key_rank);
  w.value_up = up(value_up, g.kv_heads * layout.value_width, value_rank);
  w.output = {matrix(frame.hidden, g.heads * layout.value_width), bias(frame.hidden)};
  layout.key_up = key_up;
  layout.value_up = value_up;
  return std::make_unique<LatentAttention>(frame, g, layout, std::move(w));
}

at::Tensor through_cache(const LatentAttention& layer, const Rotary& rotary, const at::Tensor& hidden,
                         const std::vector<std::int64_t>& chunks, DecodePath path) {
  const std::vector<StreamShape> streams = layer.spec()->streams();
  LayerCache cache(streams, hidden.size(0), hidden.options());
  std::vector<at::Tensor> out;
  std::int64_t begin = 0;
  for (const std::int64_t count : chunks) {
    ForwardContext context;
    context.rotary = rotary.table(begin, count, begin + count, hidden.options());
    context.before.assign(static_cast<std::size_t>(hidden.size(0)), begin);
    context.path = path;
    out.push_back(layer.forward_cached(hidden.narrow(1, begin, count), context, cache));
    begin += count;
  }
  EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
  EXPECT_EQ(cache.bytes(),
            hidden.size(0) * begin * elements_per_token(streams) * static_cast<std::int64_t>(hidden.element_size()));
  return at::cat(out, 1);
}

TEST(LatentPaths, AbsorbedIsExpandedIsUncachedForAnyShape) {
  const at::NoGradGuard no_grad;
  constexpr std::int64_t kLength = 13;
  RandomStream stream(3, "shapes");
  for (int i = 0; i < 120; ++i) {
    const at::ScalarType dtype = i % 2 ? at::kFloat : at::kDouble;
    const double tolerance = dtype == at::kDouble ? kPathsDoubleTolerance : kPathsFloatTolerance;
    ModelFrame frame;
    HeadFields heads;
    const auto layer = random_layer(stream, dtype, frame, heads);
    const Rotary rotary = frame.rotary();
    const at::Tensor hidden = normal(stream, {2, kLength, frame.hidden}, 1).to(dtype);
    ForwardContext context;
    context.rotary = rotary.table(0, kLength, kLength, hidden.options());
    const at::Tensor expected = layer->forward(hidden, context);
    using Absorption = LatentAttention::Absorption;
    for (const Absorption absorption : {Absorption::kEachStep, Absorption::kOnce, Absorption::kAuto}) {
      layer->prepare_decode(absorption);
      for (const DecodePath path : {DecodePath::kAbsorbed, DecodePath::kExpanded, DecodePath::kAuto}) {
        for (const auto& chunks :
             {std::vector<std::int64_t>{kLength}, {5, 1, 1, 4, 2}, std::vector<std::int64_t>(kLength, 1)}) {
          const at::Tensor found = through_cache(*layer, rotary, hidden, chunks, path);
          EXPECT_LT(test::largest_difference(found, expected), tolerance)
              << "shape " << i << " absorption " << static_cast<int>(absorption) << " path " << static_cast<int>(path)
              << " chunks " << chunks.size();
        }
      }
    }
  }
}

}  // namespace
}  // namespace mla
