// The kernels of decoding against their definitions written with ATen.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/ops/decode_attention.h"
#include "core/ops/kernels.h"
#include "core/ops/thin_linear.h"
#include "core/quantize/codec.h"
#include "tests/support/random_tensors.h"

namespace mla {
namespace {

using test::normal;

double difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}
/// Of results of size 1, from sums over at most some thousand terms.
double decode_tolerance(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-12 : 2e-5; }

class DecodeOps : public testing::TestWithParam<at::ScalarType> {
 protected:
  at::Tensor random(std::vector<std::int64_t> shape) { return normal(std::move(shape), GetParam(), ++seed_); }
  std::uint64_t seed_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Dtypes, DecodeOps, testing::Values(at::kFloat, at::kDouble),
                         [](const auto& test) { return std::string(c10::toString(test.param)); });

TEST_P(DecodeOps, ThinLinear) {
  const at::NoGradGuard no_grad;
  for (const std::int64_t in : {1, 7, 8, 37, 64}) {
    for (const std::int64_t out : {1, 3, 4, 22}) {
      const at::Tensor weight = random({out, in}), bias = random({out});
      const at::Tensor x = random({kThinRows, in}) / 8;
      const at::Tensor all = thin_linear(x, weight, bias);
      EXPECT_LT(difference(all, at::linear(x, weight, bias)), decode_tolerance(GetParam())) << in << " " << out;
      // A row's result is its own, bit for bit.
      for (std::int64_t rows = 1; rows < kThinRows; ++rows) {
        EXPECT_TRUE(thin_linear(x.narrow(0, 0, rows), weight, bias).equal(all.narrow(0, 0, rows))) << rows;
      }
    }
  }
}

TEST_P(DecodeOps, ThinLinearLeavesOtherWorkAlone) {
  const at::Tensor weight = random({4, 8});
  EXPECT_EQ(thin_linear_serves(random({2, 8, 8}), weight), kernels_are_on());
  EXPECT_FALSE(thin_linear_serves(random({kThinRows + 1, 8}), weight));
  EXPECT_FALSE(thin_linear_serves(random({2, 8}), random({8, 4}).t()));
  const at::AutoGradMode with_gradients(true);
  EXPECT_FALSE(thin_linear_serves(random({2, 8}), weight.clone().requires_grad_(true)));
}

TEST_P(DecodeOps, ProductsWithEachHeadsMatrix) {
  for (const std::int64_t kv_heads : {1, 2, 3}) {
    for (const std::int64_t group : {1, 3, 8}) {
      const std::int64_t in = 13, out = 70, heads = kv_heads * group;
      const at::Tensor x = random({2, heads, in}) / 4, weight = random({kv_heads, in, out});
      const at::Tensor expected =
          at::einsum("bhgi,hio->bhgo", {x.view({2, kv_heads, group, in}), weight}).reshape({2, heads, out});
      EXPECT_LT(difference(head_sums(x, weight.view({kv_heads * in, out}), kv_heads), expected),
                decode_tolerance(GetParam()));
      const at::Tensor transposed = weight.transpose(1, 2).contiguous().view({kv_heads * out, in});
      EXPECT_LT(difference(head_products(x, transposed, kv_heads), expected), decode_tolerance(GetParam()));
    }
  }
}

DecodeSpan span_of(const at::Tensor& rows) {
  return {rows.size(1), rows.const_data_ptr(), rows.stride(0), rows.stride(1), {}};
}

/// Streams in memory, some of them in several pieces.
struct Held {
  std::vector<at::Tensor> streams;  ///< [batch, heads, tokens, width]
  std::vector<at::Tensor> pieces;

  DecodeStream stream(std::size_t index, const std::vector<std::int64_t>& lengths,
                      const std::vector<std::int64_t>& cuts) {
    const at::Tensor& all = streams[index];
    DecodeStream result{all.size(1), all.size(3), {}};
    for (std::size_t row = 0; row < lengths.size(); ++row) {
      std::vector<DecodeSpan>& spans = result.rows.emplace_back();
      std::int64_t begin = 0;
      for (std::size_t i = 0; i <= cuts.size(); ++i) {
        const std::int64_t end = i < cuts.size() ? std::min(cuts[i], lengths[row]) : lengths[row];
        if (end <= begin) continue;
        pieces.push_back(all[static_cast<std::int64_t>(row)].narrow(1, begin, end - begin).clone());
        spans.push_back(span_of(pieces.back()));
        begin = end;
      }
    }
    return result;
  }
};

/// A memory's rows for one sequence, [memories, tokens, width].
at::Tensor rows_of(const at::Tensor& stream, const DecodeMemory& memory, std::int64_t row, std::int64_t first,
                   std::int64_t last) {
  std::vector<at::Tensor> rows;
  for (std::int64_t m = 0; m < memory.memories; ++m) {
    const bool one = stream.size(1) == 1;
    rows.push_back(stream[row][one ? 0 : m]
                       .narrow(1, memory.column + (one ? m * memory.width : 0), memory.width)
                       .narrow(0, first, last - first));
  }
  return at::stack(rows);
}

at::Tensor reference(const DecodeProblem& problem, const std::vector<at::Tensor>& streams,
                     const std::vector<std::int64_t>& lengths) {
  const at::Tensor& query = problem.queries.front();
  const std::int64_t heads = query.size(1);
  const at::Tensor out = at::zeros({query.size(0), heads, problem.values.width}, query.options());
  for (std::int64_t b = 0; b < query.size(0); ++b) {
    const std::int64_t last = lengths[static_cast<std::size_t>(b)];
    const std::int64_t first = problem.window > 0 ? std::max<std::int64_t>(0, last - problem.window) : 0;
    if (last == 0) continue;
    at::Tensor scores = at::zeros({heads, last - first}, query.options());
    for (std::size_t k = 0; k < problem.keys.size(); ++k) {
      const DecodeMemory& memory = problem.keys[k];
      const at::Tensor keys =
          rows_of(streams[memory.stream], memory, b, first, last).repeat_interleave(heads / memory.memories, 0);
      scores = scores + at::matmul(keys, problem.queries[k][b].unsqueeze(2)).squeeze(2);
    }
    const at::Tensor values = rows_of(streams[problem.values.stream], problem.values, b, first, last)
                                  .repeat_interleave(heads / problem.values.memories, 0);
    out[b].copy_(at::matmul((scores * problem.scale).softmax(-1).unsqueeze(1), values).squeeze(1));
  }
  return out;
}

TEST_P(DecodeOps, AttentionOverOneOrManyMemories) {
  struct Case {
    std::int64_t heads, rope_heads, rope, latent;
    DecodeMemory keys, values;
  };
  const std::vector<Case> cases = {
      {9, 3, 8, 48, {1, 1, 0, 48}, {1, 1, 0, 48}},   // grouped queries, joint latent
      {4, 4, 6, 21, {1, 1, 0, 10}, {1, 1, 10, 11}},  // every head its own, split latent, odd widths
      {8, 1, 4, 40, {1, 1, 0, 40}, {1, 1, 0, 40}},   // one rotated key for all
      {6, 2, 4, 30, {1, 2, 0, 5}, {1, 1, 10, 20}},   // keys as they are, values from a latent
      {6, 3, 2, 33, {1, 3, 0, 4}, {1, 3, 12, 7}},    // neither
      {32, 32, 3, 9, {1, 1, 0, 9}, {1, 1, 0, 9}},
      {9, 1, 20, 72, {1, 1, 0, 72}, {1, 1, 0, 72}},  // widths that end in half a vector
      {9, 1, 12, 92, {1, 1, 0, 92}, {1, 1, 5, 87}},  // in a quarter, and in single columns
      {9, 1, 70, 300, {1, 1, 0, 65}, {1, 1, 65, 7}},
  };
  for (const Case& c : cases) {
    for (const std::int64_t window : {0, 70}) {
      const std::vector<std::int64_t> lengths = {1, 600, 0, 130};
      Held held{{random({4, c.rope_heads, 600, c.rope}), random({4, 1, 600, c.latent})}, {}};
      DecodeProblem problem;
      problem.streams = {held.stream(0, lengths, {100}), held.stream(1, lengths, {63, 64, 300})};
      problem.keys = {{0, c.rope_heads, 0, c.rope}, c.keys};
      problem.queries = {random({4, c.heads, c.rope}), random({4, c.heads, c.keys.width})};
      problem.values = c.values;
      problem.scale = 0.3;
      problem.window = window;
      const at::Tensor found = decode_attention(problem);
      EXPECT_LT(difference(found, reference(problem, held.streams, lengths)), decode_tolerance(GetParam()))
          << c.heads << " " << c.latent;
      EXPECT_TRUE(decode_attention(problem).equal(found));
    }
  }
}

TEST_P(DecodeOps, KeysAreTurnedWhenTheyAreRead) {
  const std::vector<std::int64_t> lengths = {1, 600, 0, 130}, pairs = {2, 0, 2};
  const at::Tensor angles = random({600, 4}), cosine = angles.cos(), sine = angles.sin();
  const at::Tensor rows = random({4, 1, 600, 20}), turning = rows.narrow(-1, 4, 6);
  const at::Tensor index = at::tensor(pairs, at::kLong), c = cosine.index_select(1, index),
                   s = sine.index_select(1, index);
  const at::Tensor first = turning.narrow(-1, 0, 3), second = turning.narrow(-1, 3, 3);
  Held held{{rows, at::cat({first * c - second * s, second * c + first * s}, -1)}, {}};
  for (const std::int64_t window : {0, 70}) {
    DecodeProblem read, before;
    read.streams = before.streams = {held.stream(0, lengths, {63, 64, 300}), held.stream(1, lengths, {100})};
    read.keys = {{0, 1, 4, 6, {cosine.const_data_ptr(), sine.const_data_ptr(), 4, pairs.data()}}, {0, 1, 0, 20}};
    before.keys = {{1, 1, 0, 6}, {0, 1, 0, 20}};
    read.queries = before.queries = {random({4, 7, 6}), random({4, 7, 20})};
    read.values = before.values = {0, 1, 0, 20};
    read.scale = before.scale = 0.3;
    read.window = before.window = window;
    EXPECT_LT(difference(decode_attention(read), decode_attention(before)), decode_tolerance(GetParam())) << window;
  }
}

TEST_P(DecodeOps, KeysOfSeveralStreamsAddUp) {
  const std::vector<std::int64_t> lengths = {1, 600, 0, 130};
  for (const std::vector<std::int64_t>& widths :
       {std::vector<std::int64_t>{16, 32, 32, 72}, {72, 6, 64, 10, 1}, {64, 64, 64, 64, 64}, {3, 3}}) {
    Held held;
    DecodeProblem apart;
    std::vector<at::Tensor> queries;
    for (const std::int64_t width : widths) {
      held.streams.push_back(random({4, 1, 600, width}));
      queries.push_back(random({4, 5, width}));
      apart.keys.push_back({held.streams.size() - 1, 1, 0, width});
    }
    held.streams.push_back(at::cat(held.streams, -1));
    held.streams.push_back(random({4, 1, 600, 12}));
    for (std::size_t i = 0; i < held.streams.size(); ++i)
      apart.streams.push_back(
          held.stream(i, lengths, i % 2 ? std::vector<std::int64_t>{63, 64, 300} : std::vector<std::int64_t>{100}));
    apart.scale = 0.1;
    apart.values = {held.streams.size() - 1, 1, 0, 12};
    DecodeProblem one = apart;
    apart.queries = queries;
    one.keys = {{widths.size(), 1, 0, held.streams[widths.size()].size(3)}};
    one.queries = {at::cat(queries, -1)};
    const at::Tensor found = decode_attention(apart);
    EXPECT_LT(difference(found, decode_attention(one)), decode_tolerance(GetParam())) << widths.size();
    EXPECT_LT(difference(found, reference(apart, held.streams, lengths)), decode_tolerance(GetParam()));
  }
}

/// Of rows [batch, heads, tokens, from] the keys that maps [memories, from, width] make of them, rotated.
at::Tensor made_keys_of(const at::Tensor& rows, const at::Tensor& maps, const at::Tensor& bias,
                        const at::Tensor& cosine, const at::Tensor& sine) {
  const std::int64_t half = maps.size(2) / 2, repeats = maps.size(0) / rows.size(1);
  at::Tensor keys = at::matmul(rows.repeat_interleave(repeats, 1), maps);
  if (bias.defined()) keys = keys + bias.unsqueeze(1);
  if (!cosine.defined()) return keys;
  const at::Tensor x = keys.narrow(-1, 0, half), y = keys.narrow(-1, half, half);
  return at::cat({x * cosine - y * sine, y * cosine + x * sine}, -1);
}

TEST_P(DecodeOps, KeysAreMadeOfWhatIsCached) {
  struct Case {
    std::int64_t query_heads, memories, held_heads, from, width, value_heads;
    bool bias, rotated;
  };
  const std::vector<Case> cases = {{9, 3, 1, 24, 64, 1, false, true},   // a latent of all heads
                                   {8, 4, 2, 7, 16, 2, true, true},     // of groups of KV heads
                                   {8, 4, 2, 7, 6, 4, true, true},      // values apart
                                   {4, 4, 4, 5, 10, 1, true, true},     // each head its own
                                   {6, 3, 1, 40, 20, 3, false, false},  // not rotated
                                   {5, 1, 1, 33, 32, 1, true, true}};
  const std::vector<std::int64_t> lengths = {1, 600, 0, 130};
  for (const Case& c : cases) {
    const at::Tensor angles = random({600, c.width / 2}), cosine = angles.cos(), sine = angles.sin();
    const at::Tensor maps = random({c.memories, c.from, c.width}) / 5, bias = random({c.memories, c.width});
    const at::Tensor rows = random({4, c.held_heads, 600, c.from + 3});
    const at::Tensor keys = made_keys_of(rows.narrow(-1, 3, c.from), maps, c.bias ? bias : at::Tensor(),
                                         c.rotated ? cosine : at::Tensor(), sine);
    Held held{{rows, keys, random({4, c.value_heads, 600, 12})}, {}};
    for (const std::int64_t window : {0, 70}) {
      DecodeProblem read, before;
      read.streams = before.streams = {held.stream(0, lengths, {63, 64, 300}), held.stream(1, lengths, {100}),
                                       held.stream(2, lengths, {17})};
      DecodeMemory memory{0, c.memories, 3, c.width};
      memory.expansion = {maps.const_data_ptr(), c.bias ? bias.const_data_ptr() : nullptr, c.from};
      if (c.rotated) memory.rotation = {cosine.const_data_ptr(), sine.const_data_ptr(), c.width / 2};
      read.keys = {memory};
      before.keys = {{1, c.memories, 0, c.width}};
      read.queries = before.queries = {random({4, c.query_heads, c.width})};
      read.values = before.values = {2, c.value_heads, 0, 12};
      read.scale = before.scale = 0.1;
      read.window = before.window = window;
      const at::Tensor found = decode_attention(read);
      EXPECT_LT(difference(found, decode_attention(before)), decode_tolerance(GetParam())) << c.from << " " << window;
      const int threads = at::get_num_threads();
      at::set_num_threads(3);
      EXPECT_TRUE(decode_attention(read).equal(found)) << c.from;
      at::set_num_threads(threads);
    }
  }
}

TEST_P(DecodeOps, GroupedQueriesDoNotDependOnThreadsOrNeighbours) {
  const std::vector<std::int64_t> lengths = {700, 5, 333};
  Held held{{random({3, 2, 700, 24}), random({3, 2, 700, 20})}, {}};
  DecodeProblem problem;
  problem.streams = {held.stream(0, lengths, {}), held.stream(1, lengths, {})};
  problem.keys = {{0, 2, 0, 24}};
  problem.queries = {random({3, 8, 24})};
  problem.values = {1, 2, 0, 20};
  const at::Tensor found = decode_attention(problem);
  EXPECT_LT(difference(found, reference(problem, held.streams, lengths)), decode_tolerance(GetParam()));
  const int threads = at::get_num_threads();
  at::set_num_threads(3);
  EXPECT_TRUE(decode_attention(problem).equal(found));
  at::set_num_threads(threads);
  DecodeProblem one = problem;
  for (DecodeStream& stream : one.streams) stream.rows = {stream.rows[2]};
  one.queries = {problem.queries[0].narrow(0, 2, 1)};
  EXPECT_TRUE(decode_attention(one)[0].equal(found[2]));
}

/// Codes of `bits` bits as the kernel reads them, with scale and zero; and the numbers they stand for.
struct PackedRows {
  at::Tensor codes, scale, zero, numbers;
  PackedSpan span;
};
PackedRows pack(std::int64_t heads, std::int64_t tokens, std::int64_t width, int bits, std::int64_t group, bool across,
                bool zero_first, bool half, std::uint64_t seed) {
  PackedRows p;
  const at::Tensor codes =
      normal({heads, tokens, width}, at::kDouble, seed).mul(1000).abs().remainder(1 << bits).floor();
  const std::vector<std::int64_t> shape = across ? std::vector<std::int64_t>{heads, tokens / group, width}
                                                 : std::vector<std::int64_t>{heads, tokens, width / group};
  p.scale = normal(shape, at::kDouble, seed + 1).abs().div(1 << bits).to(half ? at::kHalf : at::kFloat);
  p.zero = (zero_first ? normal(shape, at::kDouble, seed + 2).mul(2) : normal(shape, at::kDouble, seed + 2).div(4))
               .to(half ? at::kHalf : at::kFloat);
  const auto spread = [&](const at::Tensor& x) { return x.to(at::kDouble).repeat_interleave(group, across ? 1 : 2); };
  p.numbers = zero_first ? (codes - spread(p.zero)) * spread(p.scale) : codes * spread(p.scale) + spread(p.zero);
  p.codes = at::zeros({heads, tokens, packed_row_bytes(width, bits)}, at::kByte);
  for (std::int64_t row = 0; row < heads * tokens; ++row) {
    std::uint8_t* bytes = p.codes.mutable_data_ptr<std::uint8_t>() + row * p.codes.size(2);
    for (std::int64_t c = 0; c < width; ++c) {
      const auto code = static_cast<unsigned>(codes.const_data_ptr<double>()[row * width + c]);
      for (int bit = 0; bit < bits; ++bit) {
        const std::int64_t at = c * bits + bit;
        if (code >> bit & 1U) bytes[at / 8] = static_cast<std::uint8_t>(bytes[at / 8] | 1U << at % 8);
      }
    }
  }
  p.span = {bits,
            p.codes.const_data_ptr<std::uint8_t>(),
            p.codes.stride(1),
            p.codes.stride(0),
            p.scale.const_data_ptr(),
            p.zero.const_data_ptr(),
            half,
            p.scale.stride(0),
            group,
            across,
            zero_first ? PackedSpan::kLessZeroScaled : PackedSpan::kScaledPlusZero};
  return p;
}

TEST_P(DecodeOps, PackedRowsAreReadAsTheyAre) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const bool across : {false, true}) {
      for (const std::int64_t group : {4, 8, 16}) {
        const bool half = group == 16, zero_first = bits % 2 == 0;
        const std::int64_t width = across ? 21 : 2 * group, tokens = 160, heads = 5;
        const PackedRows key = pack(1, tokens, width, bits, group, across, zero_first, half, 10),
                         rope = pack(heads, tokens, width, bits, group, across, zero_first, half, 20);
        const at::Tensor tail = random({1, 3, width}), rope_tail = random({heads, 3, width});
        DecodeProblem problem;
        problem.streams = {{heads, width, {{{tokens, nullptr, 0, 0, rope.span}, span_of(rope_tail)}}},
                           {1, width, {{{tokens, nullptr, 0, 0, key.span}, span_of(tail)}}}};
        problem.keys = {{0, heads, 0, width}, {1, 1, 0, width}};
        problem.queries = {random({1, heads, width}), random({1, heads, width})};
        problem.values = {1, 1, 0, width};
        problem.scale = 0.2;
        const std::vector<at::Tensor> dense = {at::cat({rope.numbers.to(GetParam()), rope_tail}, 1).unsqueeze(0),
                                               at::cat({key.numbers.to(GetParam()), tail}, 1).unsqueeze(0)};
        // Unpacking is done in float32.
        EXPECT_LT(difference(decode_attention(problem), reference(problem, dense, {tokens + 3})), 1e-4)
            << bits << " " << across << " " << group;
      }
    }
  }
}

// Rows as long as a page take shorter tiles, and their values are read panel by panel.
TEST_P(DecodeOps, LongPackedRowsAreReadAsTheyAre) {
  const std::int64_t width = 1208, tokens = 100, heads = 6;
  for (const bool across : {false, true}) {
    const PackedRows latent = pack(1, tokens, width, 4, across ? 20 : 8, across, false, true, 30);
    const at::Tensor tail = random({1, 3, width});
    const at::Tensor dense = at::cat({latent.numbers.to(GetParam()), tail}, 1).unsqueeze(0);
    const std::vector<std::pair<DecodeMemory, DecodeMemory>> layouts = {
        {{0, 1, 0, width}, {0, 1, 0, width}},  // joint
        {{0, 1, 0, 640}, {0, 1, 640, 568}},    // split
        {{0, 1, 0, 650}, {0, 1, 650, 558}},    // split, within a panel of values
        {{0, 3, 0, 96}, {0, 1, 288, 900}},     // three keys for six heads
        {{0, 2, 64, 40}, {0, 3, 160, 320}}};   // several of both
    for (const auto& [keys, values] : layouts) {
      DecodeProblem problem;
      problem.streams = {{1, width, {{{tokens, nullptr, 0, 0, latent.span}, span_of(tail)}}}};
      problem.keys = {keys};
      problem.queries = {random({1, heads, keys.width})};
      problem.values = values;
      problem.scale = 0.02;
      EXPECT_LT(difference(decode_attention(problem), reference(problem, {dense}, {tokens + 3})), 1e-4)
          << keys.width << " " << values.column << " " << across;
    }
  }
}

}  // namespace
}  // namespace mla
