#include "core/ops/causal_attention.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <optional>
#include <vector>

#include "core/ops/packed_heads.h"
#include "core/ops/tile_product.h"
#include "core/ops/vector_math.h"

namespace mla {
namespace {

/// Queries, and keys, of one block: enough to work on while they lie in a near cache. A multiple of a register tile's
/// rows and columns.
constexpr std::int64_t kBlock = 144;
static_assert(kBlock % kTileRows == 0 && kBlock % kTileColumns<float> == 0 && kBlock % kTileColumns<double> == 0);

/// A softmax's largest logit may exceed what is subtracted from all by so much before results are scaled anew.
template <class T>
constexpr T kHeadroom = 10;

template <class T>
MLA_INLINE T exponentials(T* row, std::int64_t count, T shift) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < count; ++j) {
    row[j] = vector_exp_to_88(row[j] - shift);
    sum += row[j];
  }
  return sum;
}
template <class T>
MLA_INLINE T largest(const T* row, std::int64_t count) {
  T most = row[0];
#pragma omp simd reduction(max : most)
  for (std::int64_t j = 0; j < count; ++j) most = row[j] > most ? row[j] : most;
  return most;
}
/// Probabilities p = exp(logit - lse) in place of logits, and the logits' gradient p (dp - delta) in place of dp.
template <class T>
MLA_INLINE void gradient(T* row, T* drow, std::int64_t count, T lse, T delta) {
#pragma omp simd
  for (std::int64_t j = 0; j < count; ++j) {
    row[j] = vector_exp_to_88(row[j] - lse);
    drow[j] = row[j] * (drow[j] - delta);
  }
}

/// Inputs, result and the logarithm of each query's softmax denominator.
struct Tensors {
  at::Tensor q, k, v, out, lse, first;
  std::int64_t batch() const { return q.size(0); }
  std::int64_t heads() const { return q.size(1); }
  std::int64_t kv_heads() const { return k.size(1); }
  std::int64_t group() const { return heads() / kv_heads(); }
  std::int64_t length() const { return q.size(2); }
};

MLA_VECTORISED void pack_kernel(const HeadRows<const float>& from, std::int64_t count, float scale,
                                std::int64_t to_width, float* to) {
  pack_rows(from, count, scale, to_width, to);
}
MLA_VECTORISED void pack_kernel(const HeadRows<const double>& from, std::int64_t count, double scale,
                                std::int64_t to_width, double* to) {
  pack_rows(from, count, scale, to_width, to);
}

MLA_VECTORISED void panels_kernel(const HeadRows<const float>& from, std::int64_t count, float* to) {
  pack_panels(from, count, to);
}
MLA_VECTORISED void panels_kernel(const HeadRows<const double>& from, std::int64_t count, double* to) {
  pack_panels(from, count, to);
}
/// Queries begin … end - 1 of one head and the keys that they see.
struct Queries {
  std::int64_t begin, end;
  const std::int64_t* first;  ///< of the sequence; may be null
  std::int64_t first_key(std::int64_t query) const { return first ? first[query] : 0; }
  std::int64_t lowest_key() const { return first ? *std::min_element(first + begin, first + end) : 0; }
};
/// Keys of a tile that a query, or any of a strip of queries, sees; counted from the tile's first.
struct Span {
  std::int64_t from, to;
  bool empty() const { return from >= to; }
  std::int64_t size() const { return to - from; }
};
MLA_INLINE Span visible(std::int64_t tile, std::int64_t first_key, std::int64_t last_query) {
  return {std::max<std::int64_t>(first_key - tile, 0), std::min(last_query + 1 - tile, kBlock)};
}
MLA_INLINE Queries strip_of(const Queries& block, std::int64_t begin) {
  return {begin, std::min(begin + kTileRows, block.end), block.first};
}

/// Products of a strip of packed queries with the keys of the span, and more to whole panels.
template <class T>
MLA_INLINE void strip_scores(const T* strip, std::int64_t strip_width, const T* panels, std::int64_t width,
                             const Span& span, T* scores) {
  for (std::int64_t j = span.from / kTileColumns<T> * kTileColumns<T>; j < span.to; j += kTileColumns<T>) {
    register_tile<T, 2>({strip, strip_width, 1}, panels + j * width, kTileColumns<T>, width, scores + j, kBlock, false);
  }
}

/// One block of queries on its way over the keys: scores of a strip, packed queries and unnormalised results.
template <class T>
struct Forward {
  const T *k_panels, *v_rows;  ///< of the head, packed
  T *q, *out, *scores, *shift, *sum;
  std::int64_t width, q_width, v_width;
  HeadRows<const T> from;  ///< the head's queries
  HeadRows<T> to;          ///< and results
  T scale, *lse;
};

template <class T>
MLA_INLINE void softmax_strip(const Forward<T>& f, const Queries& strip, std::int64_t row, std::int64_t tile,
                              const Span& span) {
  for (std::int64_t query = strip.begin; query < strip.end; ++query, ++row) {
    T* line = f.scores + (query - strip.begin) * kBlock;
    const Span seen = visible(tile, strip.first_key(query), query);
    if (seen.empty()) {
      std::fill(line + span.from, line + span.to, T(0));
      continue;
    }
    const T most = largest(line + seen.from, seen.size());
    if (most > f.shift[row] + kHeadroom<T>) [[unlikely]] {
      const T factor = vector_exp_to_88(f.shift[row] - most);
      for (std::int64_t i = 0; i < f.v_width; ++i) f.out[row * f.v_width + i] *= factor;
      f.sum[row] *= factor;
      f.shift[row] = most;
    }
    f.sum[row] += exponentials(line + seen.from, seen.size(), f.shift[row]);
    std::fill(line + span.from, line + seen.from, T(0));
    std::fill(line + seen.to, line + span.to, T(0));
  }
}

template <class T>
MLA_INLINE void forward_tile(const Forward<T>& f, const Queries& block, std::int64_t tile) {
  for (std::int64_t begin = block.begin; begin < block.end; begin += kTileRows) {
    const Queries strip = strip_of(block, begin);
    const Span span = visible(tile, strip.lowest_key(), strip.end - 1);
    if (span.empty()) continue;
    const std::int64_t row = begin - block.begin;
    strip_scores(f.q + row * f.q_width, f.q_width, f.k_panels + tile * f.width, f.width, span, f.scores);
    softmax_strip(f, strip, row, tile, span);
    tile_product<T>({f.scores + span.from, kBlock, 1}, f.v_rows + (tile + span.from) * f.v_width, f.v_width,
                    span.size(), f.v_width, f.out + row * f.v_width, f.v_width, true);
  }
}

template <class T>
MLA_INLINE void forward_block(const Forward<T>& f, const Queries& block) {
  const std::int64_t rows = block.end - block.begin;
  pack_rows<T>({f.from.row(block.begin), f.from.stride, f.width}, rows, f.scale, f.q_width, f.q);
  std::fill_n(f.out, kBlock * f.v_width, T(0));
  std::fill_n(f.sum, kBlock, T(0));
  std::fill_n(f.shift, kBlock, std::numeric_limits<T>::lowest() / 2);
  for (std::int64_t tile = block.lowest_key() / kBlock * kBlock; tile < block.end; tile += kBlock) {
    forward_tile(f, block, tile);
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    scale_row(f.out + row * f.v_width, f.to.width, 1 / f.sum[row], f.to.row(block.begin + row));
    f.lse[block.begin + row] = f.shift[row] + std::log(f.sum[row]);
  }
}
MLA_VECTORISED void forward_kernel(const Forward<float>& f, const Queries& block) { forward_block(f, block); }
MLA_VECTORISED void forward_kernel(const Forward<double>& f, const Queries& block) { forward_block(f, block); }

const std::int64_t* first_of(const Tensors& t, std::int64_t head) {
  return t.first.defined() ? t.first.const_data_ptr<std::int64_t>() + head / t.heads() * t.length() : nullptr;
}
/// Index of the KV head that a head reads; both are counted over the batch.
std::int64_t kv_head_of(const Tensors& t, std::int64_t head) { return head / t.group(); }

template <class T>
void forward_all(const Tensors& t, double scale) {
  const std::int64_t heads = t.batch() * t.heads(), kv_heads = t.batch() * t.kv_heads(), length = t.length();
  const std::int64_t width = t.q.size(3), q_width = packed_width<T>(t.q), v_width = packed_width<T>(t.v);
  const Room<T> k_panels(kv_heads, panels_size(t.k, kTileColumns<T>)),
      v_rows(kv_heads, rounded_up(length, kTileRows) * v_width);
  for_units<T>(kv_heads, 0, [&](std::int64_t head, T*) {
    panels_kernel(head_of<T>(t.k, head), length, k_panels.block(head));
    pack_kernel(head_of<T>(t.v, head), length, T(1), v_width, v_rows.block(head));
  });
  const std::int64_t blocks = (length + kBlock - 1) / kBlock;
  for_units<T>(heads * blocks, kBlock * (q_width + v_width + kTileRows + 2), [&](std::int64_t unit, T* room) {
    const std::int64_t head = unit % heads, begin = (blocks - 1 - unit / heads) * kBlock;
    T *q = room, *out = q + kBlock * q_width, *scores = out + kBlock * v_width, *shift = scores + kBlock * kTileRows;
    forward_kernel({k_panels.block(kv_head_of(t, head)), v_rows.block(kv_head_of(t, head)), q, out, scores, shift,
                    shift + kBlock, width, q_width, v_width, head_of<T>(t.q, head), writable_head<T>(t.out, head),
                    static_cast<T>(scale), t.lse.mutable_data_ptr<T>() + head * length},
                   {begin, std::min(begin + kBlock, length), first_of(t, head)});
  });
}

/// Gradients of the result and of the inputs.
struct Gradients {
  at::Tensor dout, dq, dk, dv;
};

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

template <class T>
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
    strip_scores(b.q + begin * b.q_width, b.q_width, b.k_panels, b.width, span, p);
    strip_scores(b.dout + begin * b.v_width, b.v_width, b.v_panels, b.value_width, span, dp);
    gradient_strip(b, strip, tile, p, dp);
    tile_product<T>({dp + span.from, kBlock, 1}, b.k_rows + span.from * b.q_width, b.q_width, span.size(), b.q_width,
                    b.dq + begin * b.q_width, b.q_width, true);
  }
  for (std::int64_t key = 0; key < keys; key += kTileRows) {
    // No query before the key sees it.
    const std::int64_t row = std::max<std::int64_t>(tile + key - block.begin, 0), query = block.begin + row;
    if (query >= block.end) break;
    tile_product<T>({b.p + row * kBlock + key, 1, kBlock}, b.dout + query * b.v_width, b.v_width, block.end - query,
                    b.v_width, b.dv + key * b.v_width, b.v_width, b.add);
    tile_product<T>({b.dp + row * kBlock + key, 1, kBlock}, b.q + query * b.q_width, b.q_width, block.end - query,
                    b.q_width, b.dk + key * b.q_width, b.q_width, b.add);
  }
}
MLA_VECTORISED void backward_kernel(const Backward<float>& b, const Queries& block, std::int64_t tile,
                                    std::int64_t keys) {
  backward_tile(b, block, tile, keys);
}
MLA_VECTORISED void backward_kernel(const Backward<double>& b, const Queries& block, std::int64_t tile,
                                    std::int64_t keys) {
  backward_tile(b, block, tile, keys);
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

/// [batch, heads, length, width], in memory [batch, length, heads, width].
at::Tensor heads_like(const at::Tensor& x, std::int64_t heads) {
  return at::empty({x.size(0), x.size(2), heads, x.size(3)}, x.options().requires_grad(false)).transpose(1, 2);
}

struct CausalAttention : torch::autograd::Function<CausalAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, double scale, const std::optional<at::Tensor>& first) {
    const Tensors t{q,
                    k,
                    v,
                    heads_like(v, q.size(1)),
                    at::empty({q.size(0), q.size(1), q.size(2)}, q.options().requires_grad(false)),
                    first.value_or(at::Tensor())};
    with_type(q, [&]<class T>(T*) { forward_all<T>(t, scale); });
    context->save_for_backward({q, k, v, t.out, t.lse, t.first});
    context->saved_data["scale"] = scale;
    return t.out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensors t{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5]};
    const Gradients g{gradients[0].stride(3) == 1 ? gradients[0] : gradients[0].contiguous(),
                      heads_like(t.q, t.heads()), heads_like(t.k, t.kv_heads()), heads_like(t.v, t.kv_heads())};
    with_type(t.q, [&]<class T>(T*) { backward_all<T>(t, g, context->saved_data["scale"].toDouble()); });
    return {g.dq, g.dk, g.dv, at::Tensor(), at::Tensor()};
  }
};

at::Tensor dense_rows(const at::Tensor& x) { return x.stride(3) == 1 ? x : x.contiguous(); }

}  // namespace

at::Tensor causal_self_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                 const at::Tensor& first) {
  std::optional<at::Tensor> given;  // autograd takes no undefined tensor
  if (first.defined()) given = first.contiguous();
  return CausalAttention::apply(dense_rows(q), dense_rows(k), dense_rows(v), scale, given);
}

}  // namespace mla
