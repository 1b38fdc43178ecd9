#include <cmath>
#include <limits>

#include "core/ops/causal_tiles.h"

namespace mla::causal {
namespace {

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

template <class T, int BYTES>
MLA_INLINE void forward_tile(const Forward<T>& f, const Queries& block, std::int64_t tile) {
  for (std::int64_t begin = block.begin; begin < block.end; begin += kTileRows) {
    const Queries strip = strip_of(block, begin);
    const Span span = visible(tile, strip.lowest_key(), strip.end - 1);
    if (span.empty()) continue;
    const std::int64_t row = begin - block.begin;
    strip_scores<T, BYTES>(f.q + row * f.q_width, f.q_width, f.k_panels + tile * f.width, f.width, span, f.scores);
    softmax_strip(f, strip, row, tile, span);
    tile_product<T, BYTES>({f.scores + span.from, kBlock, 1}, f.v_rows + (tile + span.from) * f.v_width, f.v_width,
                           span.size(), f.v_width, f.out + row * f.v_width, f.v_width, true);
  }
}

template <class T, int BYTES>
MLA_INLINE void forward_block(const Forward<T>& f, const Queries& block) {
  const std::int64_t rows = block.end - block.begin;
  pack_rows<T>({f.from.row(block.begin), f.from.stride, f.width}, rows, f.scale, f.q_width, f.q);
  std::fill_n(f.out, kBlock * f.v_width, T(0));
  std::fill_n(f.sum, kBlock, T(0));
  std::fill_n(f.shift, kBlock, std::numeric_limits<T>::lowest() / 2);
  for (std::int64_t tile = block.lowest_key() / kBlock * kBlock; tile < block.end; tile += kBlock) {
    forward_tile<T, BYTES>(f, block, tile);
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    scale_row(f.out + row * f.v_width, f.to.width, 1 / f.sum[row], f.to.row(block.begin + row));
    f.lse[block.begin + row] = f.shift[row] + std::log(f.sum[row]);
  }
}
MLA_VECTORISED void narrow_kernel(const Forward<float>& f, const Queries& block) { forward_block<float, 32>(f, block); }
MLA_VECTORISED void narrow_kernel(const Forward<double>& f, const Queries& block) {
  forward_block<double, 32>(f, block);
}
MLA_AVX512 void wide_kernel(const Forward<float>& f, const Queries& block) { forward_block<float, 64>(f, block); }
MLA_AVX512 void wide_kernel(const Forward<double>& f, const Queries& block) { forward_block<double, 64>(f, block); }
template <class T>
void forward_kernel(const Forward<T>& f, const Queries& block) {
  if (has_avx512()) {
    wide_kernel(f, block);
  } else {
    narrow_kernel(f, block);
  }
}

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
    forward_kernel<T>({k_panels.block(kv_head_of(t, head)), v_rows.block(kv_head_of(t, head)), q, out, scores, shift,
                       shift + kBlock, width, q_width, v_width, head_of<T>(t.q, head), writable_head<T>(t.out, head),
                       static_cast<T>(scale), t.lse.mutable_data_ptr<T>() + head * length},
                      {begin, std::min(begin + kBlock, length), first_of(t, head)});
  });
}

}  // namespace

void forward(const Tensors& t, double scale) {
  with_type(t.q, [&]<class T>(T*) { forward_all<T>(t, scale); });
}

}  // namespace mla::causal
