#include "core/ops/causal_tiles.h"

namespace mla::causal {
namespace {

/// Probabilities p = exp(logit - lse) in place of logits, and the logits' gradient p (dp - delta) in place of dp.
template <class T>
MLA_INLINE void gradient(T* row, T* drow, std::int64_t count, T lse, T delta) {
#pragma omp simd
  for (std::int64_t j = 0; j < count; ++j) {
    row[j] = vector_exp_to_88(row[j] - lse);
    drow[j] = row[j] * (drow[j] - delta);
  }
}

template <class T>
T dot(const T* a, const T* b, std::int64_t count) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

/// One head's queries against one tile of keys.
template <class T>
struct Backward {
  const T *k_panels, *v_panels, *k_rows;              ///< of the tile
  const T *q, *dout, *lse, *delta;                    ///< of the head's queries, packed
  T *dq, *dk, *dv;                                    ///< dq of the head's queries, added to; dk and dv of the tile
  T *p, *dp;                                          ///< [kBlock, kBlock]
  std::int64_t width, value_width, q_width, v_width;  ///< as they are, and packed
  bool add;                                           ///< to dk and dv, which are written otherwise
};

/// p and dp of a strip; zero for keys that a query does not see, up to the last that a register tile of keys takes.
template <class T>
MLA_INLINE void gradient_strip(const Backward<T>& b, const Queries& strip, std::int64_t tile, T* p, T* dp) {
  for (std::int64_t query = strip.begin; query < strip.end; ++query, p += kBlock, dp += kBlock) {
    const Span seen = visible(tile, strip.first_key(query), query);
    const std::int64_t from = std::min(seen.from, seen.to);
    gradient(p + from, dp + from, seen.to - from, b.lse[query], b.delta[query]);
    for (std::int64_t i = 0; i < from; ++i) p[i] = dp[i] = 0;
    for (std::int64_t i = seen.to; i < rounded_up(seen.to, kTileRows); ++i) p[i] = dp[i] = 0;
  }
}

template <class T, int BYTES>
MLA_INLINE void backward_tile(const Backward<T>& b, const Queries& block, std::int64_t tile, std::int64_t keys) {
  for (std::int64_t begin = block.begin; begin < block.end; begin += kTileRows) {
    const Queries strip = strip_of(block, begin);
    const Span span = visible(tile, strip.lowest_key(), strip.end - 1);
    T *p = b.p + (begin - block.begin) * kBlock, *dp = b.dp + (begin - block.begin) * kBlock;
    if (span.empty()) {
      std::fill_n(p, kTileRows * kBlock, T(0));
      std::fill_n(dp, kTileRows * kBlock, T(0));
      continue;
    }
    strip_scores<T, BYTES>(b.q + begin * b.q_width, b.q_width, b.k_panels, b.width, span, p);
    strip_scores<T, BYTES>(b.dout + begin * b.v_width, b.v_width, b.v_panels, b.value_width, span, dp);
    gradient_strip(b, strip, tile, p, dp);
    tile_product<T, BYTES>({dp + span.from, kBlock, 1}, b.k_rows + span.from * b.q_width, b.q_width, span.size(),
                           b.q_width, b.dq + begin * b.q_width, b.q_width, true);
  }
  for (std::int64_t key = 0; key < keys; key += kTileRows) {
    // No query before the key sees it.
    const std::int64_t row = std::max<std::int64_t>(tile + key - block.begin, 0), query = block.begin + row;
    if (query >= block.end) break;
    tile_product<T, BYTES>({b.p + row * kBlock + key, 1, kBlock}, b.dout + query * b.v_width, b.v_width,
                           block.end - query, b.v_width, b.dv + key * b.v_width, b.v_width, b.add);
    tile_product<T, BYTES>({b.dp + row * kBlock + key, 1, kBlock}, b.q + query * b.q_width, b.q_width,
                           block.end - query, b.q_width, b.dk + key * b.q_width, b.q_width, b.add);
  }
}
MLA_VECTORISED void narrow_kernel(const Backward<float>& b, const Queries& block, std::int64_t tile,
                                  std::int64_t keys) {
  backward_tile<float, 32>(b, block, tile, keys);
}
MLA_VECTORISED void narrow_kernel(const Backward<double>& b, const Queries& block, std::int64_t tile,
                                  std::int64_t keys) {
  backward_tile<double, 32>(b, block, tile, keys);
}
MLA_AVX512 void wide_kernel(const Backward<float>& b, const Queries& block, std::int64_t tile, std::int64_t keys) {
  backward_tile<float, 64>(b, block, tile, keys);
}
MLA_AVX512 void wide_kernel(const Backward<double>& b, const Queries& block, std::int64_t tile, std::int64_t keys) {
  backward_tile<double, 64>(b, block, tile, keys);
}
template <class T>
void backward_kernel(const Backward<T>& b, const Queries& block, std::int64_t tile, std::int64_t keys) {
  if (has_avx512()) {
    wide_kernel(b, block, tile, keys);
  } else {
    narrow_kernel(b, block, tile, keys);
  }
}

/// Keys are worked on in as many runs as threads may want, each with gradients of queries of its own: the order of all
/// sums depends on shapes alone.
struct Runs {
  std::int64_t count, keys;
  explicit Runs(const Tensors& t) {
    constexpr std::int64_t kWanted = 16, kMost = 4, kFewest = 512;
    const std::int64_t heads = t.batch() * t.kv_heads();
    const std::int64_t parts = std::min({kMost, (kWanted + heads - 1) / heads, t.length() / kFewest});
    keys = rounded_up((t.length() + std::max<std::int64_t>(parts, 1) - 1) / std::max<std::int64_t>(parts, 1), kBlock);
    count = (t.length() + keys - 1) / keys;
  }
};

/// Inputs as the products want them.
template <class T>
struct Packed {
  Room<T> k_panels, v_panels, k_rows, q, dout, delta;
  explicit Packed(const Tensors& t)
      : k_panels(t.batch() * t.kv_heads(), panels_size(t.k, kTileColumns<T>)),
        v_panels(t.batch() * t.kv_heads(), panels_size(t.v, kTileColumns<T>)),
        k_rows(t.batch() * t.kv_heads(), rounded_up(t.length(), kTileRows) * packed_width<T>(t.k)),
        q(t.batch() * t.heads(), rounded_up(t.length(), kTileRows) * packed_width<T>(t.q)),
        dout(t.batch() * t.heads(), rounded_up(t.length(), kTileRows) * packed_width<T>(t.v)),
        delta(t.batch() * t.heads(), t.length()) {}
};

template <class T>
Packed<T> packed(const Tensors& t, const Gradients& g, T scale) {
  Packed<T> to(t);
  const std::int64_t q_width = packed_width<T>(t.q), v_width = packed_width<T>(t.v);
  for_units<T>(t.batch() * t.kv_heads(), 0, [&](std::int64_t head, T*) {
    panels_kernel(head_of<T>(t.k, head), t.length(), to.k_panels.block(head));
    panels_kernel(head_of<T>(t.v, head), t.length(), to.v_panels.block(head));
    pack_kernel(head_of<T>(t.k, head), t.length(), T(1), q_width, to.k_rows.block(head));
  });
  for_units<T>(t.batch() * t.heads(), 0, [&](std::int64_t head, T*) {
    const HeadRows<const T> out = head_of<T>(t.out, head), dout = head_of<T>(g.dout, head);
    pack_kernel(head_of<T>(t.q, head), t.length(), scale, q_width, to.q.block(head));
    pack_kernel(dout, t.length(), T(1), v_width, to.dout.block(head));
    T* delta = to.delta.block(head);
    for (std::int64_t i = 0; i < t.length(); ++i) delta[i] = dot(out.row(i), dout.row(i), out.width);
  });
  return to;
}

template <class T>
void copy_rows(const T* from, std::int64_t from_width, std::int64_t count, const HeadRows<T>& to, std::int64_t begin) {
  for (std::int64_t i = 0; i < count; ++i, from += from_width) std::copy_n(from, to.width, to.row(begin + i));
}

/// The gradients of one run of keys of one KV head; dq [group] is the run's part.
template <class T>
void backward_run(const Tensors& t, const Gradients& g, const Packed<T>& from, std::int64_t kv_head, const Span& run,
                  const Room<T>& dq, std::int64_t dq_begin, T* room) {
  const std::int64_t width = t.q.size(3), value_width = t.v.size(3), length = t.length();
  const std::int64_t q_width = packed_width<T>(t.q), v_width = packed_width<T>(t.v);
  T *p = room, *dp = p + kBlock * kBlock, *dk = dp + kBlock * kBlock, *dv = dk + kBlock * q_width;
  for (std::int64_t i = 0; i < t.group(); ++i) {
    T* head = dq.block(dq_begin + i);
    std::fill(head + run.from * q_width, head + rounded_up(length, kTileRows) * q_width, T(0));
  }
  for (std::int64_t tile = run.from; tile < run.to; tile += kBlock) {
    const std::int64_t keys = std::min(kBlock, run.to - tile);
    for (std::int64_t i = 0; i < t.group(); ++i) {
      const std::int64_t head = kv_head * t.group() + i;
      Backward<T> b{from.k_panels.block(kv_head) + tile * width,
                    from.v_panels.block(kv_head) + tile * value_width,
                    from.k_rows.block(kv_head) + tile * q_width,
                    from.q.block(head),
                    from.dout.block(head),
                    t.lse.const_data_ptr<T>() + head * length,
                    from.delta.block(head),
                    dq.block(dq_begin + i),
                    dk,
                    dv,
                    p,
                    dp,
                    width,
                    value_width,
                    q_width,
                    v_width,
                    i > 0};
      for (std::int64_t begin = tile; begin < length; begin += kBlock) {
        const Queries block{begin, std::min(begin + kBlock, length), first_of(t, head)};
        if (block.lowest_key() < tile + keys) backward_kernel(b, block, tile, keys);
        b.add = true;
      }
    }
    copy_rows(dk, q_width, keys, writable_head<T>(g.dk, kv_head), tile);
    copy_rows(dv, v_width, keys, writable_head<T>(g.dv, kv_head), tile);
  }
}

/// dq of one head as the sum of its runs' parts.
template <class T>
void sum_runs(const Room<T>& parts, const Runs& runs, std::int64_t head, std::int64_t heads, std::int64_t from_width,
              std::int64_t length, T scale, const HeadRows<T>& to) {
  for (std::int64_t i = 0; i < length; ++i) {
    T* row = parts.block(head) + i * from_width;
    for (std::int64_t run = 1; run <= i / runs.keys; ++run) {
      const T* part = parts.block(run * heads + head) + i * from_width;
      for (std::int64_t j = 0; j < from_width; ++j) row[j] += part[j];
    }
    scale_row(row, to.width, scale, to.row(i));
  }
}

template <class T>
void backward_all(const Tensors& t, const Gradients& g, double scale) {
  const std::int64_t heads = t.batch() * t.heads(), kv_heads = t.batch() * t.kv_heads(), length = t.length();
  const std::int64_t q_width = packed_width<T>(t.q), v_width = packed_width<T>(t.v);
  const Runs runs(t);
  const Packed<T> inputs = packed(t, g, static_cast<T>(scale));
  const Room<T> dq(runs.count * heads, rounded_up(length, kTileRows) * q_width);
  for_units<T>(runs.count * kv_heads, kBlock * (2 * kBlock + q_width + v_width), [&](std::int64_t unit, T* room) {
    const std::int64_t run = unit / kv_heads, head = unit % kv_heads, from = run * runs.keys;
    backward_run<T>(t, g, inputs, head, {from, std::min(from + runs.keys, length)}, dq, run * heads + head * t.group(),
                    room);
  });
  for_units<T>(heads, 0, [&](std::int64_t head, T*) {
    sum_runs<T>(dq, runs, head, heads, q_width, length, static_cast<T>(scale), writable_head<T>(g.dq, head));
  });
}

}  // namespace

void backward(const Tensors& t, const Gradients& g, double scale) {
  with_type(t.q, [&]<class T>(T*) { backward_all<T>(t, g, scale); });
}

}  // namespace mla::causal
