#include "core/ops/decode_attention.h"

#include <ATen/Functions.h>

#include <cmath>
#include <limits>
#include <memory>
#include <type_traits>

#include "core/base/error.h"
#include "core/ops/decode_plan.h"
#include "core/ops/decode_rows.h"
#include "core/ops/read_keys.h"
#include "core/ops/row_products.h"
#include "core/ops/unpack_rows.h"

namespace mla {
namespace {

/// Tokens of a tile where rows are as long as a page.
constexpr std::int64_t kTileOfLongRows = 32;

/// Columns of the queries that meet a tile at a time: what they hold stays near while the tile's rows pass by.
template <class T>
constexpr std::int64_t kChunk = static_cast<std::int64_t>(2048 / sizeof(T));
/// Rows at a distance of a page, or more, push each other out of the first-level cache: this many columns of a tile are
/// put side by side for all heads.
template <class T>
constexpr std::int64_t kPanel = 2 * kLine<T>;
constexpr std::int64_t kPage = 4096;

/// Where one head's columns begin … begin + columns - 1 are in what holds block after block of columns,
/// [grouped heads, columns]: the queries, in chunks, and the values, in panels.
template <class T>
MLA_INLINE T* block_of(T* data, std::int64_t grouped, std::int64_t begin, std::int64_t columns, std::int64_t head) {
  return data + grouped * begin + head * columns;
}

template <class T>
bool as_long_as_a_page(std::int64_t elements) {
  return elements * static_cast<std::int64_t>(sizeof(T)) >= kPage;
}

/// Room for one thread.
template <class T>
struct Workspace {
  std::vector<T> logits, factor;
  /// Of each of the problem's keys, scaled: chunk after chunk of kChunk columns, [heads of the group, columns].
  std::vector<std::vector<T>> queries;
  /// Of each stream that is packed, [its heads in the group][kDecodeTile, width].
  std::vector<std::vector<T>> tiles;
  std::vector<float> numbers, table;  ///< of unpacking
  std::vector<T> expanded, turned;    ///< keys of a tile that are made of its rows, and after their rotation
};

/// A unit's unnormalised result: values, panel after panel of kPanel columns, [heads of the group, columns]; largest
/// logits and sums of exponentials.
template <class T>
struct Partial {
  T *values, *most, *sum;
};

template <class T>
MLA_INLINE void soften(T* logits, std::int64_t count, T& most, T& sum, T& factor) {
  T larger = most;
#pragma omp simd reduction(max : larger)
  for (std::int64_t t = 0; t < count; ++t) larger = logits[t] > larger ? logits[t] : larger;
  T added = 0;
#pragma omp simd reduction(+ : added)
  for (std::int64_t t = 0; t < count; ++t) {
    logits[t] = vector_exp(logits[t] - larger);
    added += logits[t];
  }
  factor = sum > 0 ? std::exp(most - larger) : T(0);
  sum = sum * factor + added;
  most = larger;
}

/// Not inlined into the kernel below, whose many variables would leave this loop without registers.
MLA_VECTORISED void unpack_kernel(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                                  std::int64_t width, float* table, float* out) {
  unpack_span<32>(span, head, first, count, width, table, out);
}
MLA_AVX512 void wide_unpack_kernel(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                                   std::int64_t width, float* table, float* out) {
  unpack_span<64>(span, head, first, count, width, table, out);
}

/// The rows of one tile in one stream.
template <class T>
struct TileRows {
  const T* data;
  std::int64_t head_stride, token_stride, first_head;
};

/// Heads of a stream that one group of query heads reads.
std::int64_t heads_of_group(const DecodeStream& stream, std::int64_t groups) {
  return stream.heads == 1 ? 1 : stream.heads / groups;
}

template <class T, int BYTES>
MLA_INLINE TileRows<T> tile_rows(const DecodeStream& stream, const DecodePlace& place, std::int64_t groups,
                                 std::int64_t group, std::int64_t count, std::vector<T>& tile, Workspace<T>& room) {
  const std::int64_t heads = heads_of_group(stream, groups), first = stream.heads == 1 ? 0 : group * heads;
  const DecodeSpan& span = *place.span;
  if (span.packed.bits == 0) {
    return {static_cast<const T*>(span.data) + place.index * span.token_stride, span.head_stride, span.token_stride, 0};
  }
  const std::int64_t room_of_head = kDecodeTile * stream.width;
  tile.resize(static_cast<std::size_t>(heads * room_of_head));
  room.table.resize(static_cast<std::size_t>(2 * stream.width));
  for (std::int64_t head = 0; head < heads; ++head) {
    T* out = tile.data() + head * room_of_head;
    float* numbers = nullptr;
    if constexpr (std::is_same_v<T, float>) {
      numbers = out;
    } else {
      room.numbers.resize(static_cast<std::size_t>(room_of_head));
      numbers = room.numbers.data();
    }
    const auto unpack = BYTES == 64 ? wide_unpack_kernel : unpack_kernel;
    unpack(span.packed, first + head, place.index, count, stream.width, room.table.data(), numbers);
    if constexpr (!std::is_same_v<T, float>) std::copy_n(numbers, count * stream.width, out);
  }
  return {tile.data(), room_of_head, stream.width, first};
}

/// The rows of memory `index` within a tile.
template <class T>
MLA_INLINE Rows<T> memory_rows(const TileRows<T>& tile, const DecodeStream& stream, const DecodeMemory& memory,
                               std::int64_t index) {
  if (memory.expansion.maps) {
    const std::int64_t held = index * stream.heads / memory.memories - tile.first_head;
    return {tile.data + held * tile.head_stride + memory.column, tile.token_stride};
  }
  const std::int64_t head = stream.heads == 1 ? 0 : index - tile.first_head;
  const std::int64_t column = memory.column + (stream.heads == 1 ? index * memory.width : 0);
  return {tile.data + head * tile.head_stride + column, tile.token_stride};
}

/// The keys of memory `index` in a tile whose first token is at `position`.
template <class T>
Rows<T> made_keys(Rows<T> rows, const DecodeMemory& memory, std::int64_t index, std::int64_t position,
                  std::int64_t count, Workspace<T>& room) {
  const auto size = static_cast<std::size_t>(count * memory.width);
  if (memory.expansion.maps) {
    room.expanded.resize(size);
    expand_rows(rows, memory, index, count, room.expanded.data());
    rows = {room.expanded.data(), memory.width};
  }
  if (memory.rotation.cosine) {
    room.turned.resize(size);
    turn_rows(rows, memory, position, count, room.turned.data());
    rows = {room.turned.data(), memory.width};
  }
  return rows;
}

/// logits[head][token] (+)= queries . rows, for heads first … first + heads - 1 of the `grouped` that `queries` holds.
template <class T, int BYTES>
MLA_INLINE void add_logits(const T* queries, std::int64_t grouped, std::int64_t first, std::int64_t heads,
                           const Rows<T>& rows, std::int64_t count, std::int64_t width, T* logits, bool add) {
  for (std::int64_t begin = 0; begin < width; begin += kChunk<T>) {
    const std::int64_t columns = std::min(kChunk<T>, width - begin);
    const Rows<T> vectors{block_of(queries, grouped, begin, columns, first), columns},
        chunk{rows.data + begin, rows.stride};
    T* out = logits + first * kDecodeTile;
    if (columns < kChunk<T>) {
      products<T, BYTES, Ahead::kAsk>(vectors, heads, chunk, count, columns, out, kDecodeTile, add || begin > 0);
    } else {
      products<T, BYTES, Ahead::kWait>(vectors, heads, chunk, count, columns, out, kDecodeTile, add || begin > 0);
    }
  }
}

/// One row of a panel. Vectors by hand: a loop over elements becomes a string instruction, which costs more than it
/// copies.
template <class T>
MLA_INLINE void copy_panel_row(const T* from, T* to) {
  Vector<T> row[4];
  static_assert(kPanel<T> == 4 * kLanes<T>);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) load(from + i * kLanes<T>, row[i]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) store(row[i], to + i * kLanes<T>);
}

/// values[head] = values[head] * factor[head] + weights[head] times rows, for the same heads; `weights` and `factor`
/// are theirs alone.
template <class T, int BYTES>
MLA_INLINE void add_values(const T* weights, const T* factor, const Rows<T>& rows, std::int64_t count,
                           std::int64_t width, T* values, std::int64_t grouped, std::int64_t first,
                           std::int64_t heads) {
  alignas(64) T panel[kDecodeTile * kPanel<T>];
  const bool far = heads > 1 && as_long_as_a_page<T>(rows.stride);
  for (std::int64_t begin = 0; begin < width; begin += kPanel<T>) {
    const std::int64_t columns = std::min(kPanel<T>, width - begin);
    Rows<T> side_by_side{rows.data + begin, rows.stride};
    if (far && columns == kPanel<T>) {
      for (std::int64_t t = 0; t < count; ++t) {
        copy_panel_row(side_by_side.row(t), panel + t * kPanel<T>);
        // The same columns of the next tile, so that they are there when its turn comes.
        for (std::int64_t c = 0; c < columns; c += kLine<T>) __builtin_prefetch(side_by_side.row(t + count) + c, 0, 2);
      }
      side_by_side = {panel, kPanel<T>};
    }
    weighted_sums<T, BYTES>(weights, kDecodeTile, factor, side_by_side, count, columns,
                            block_of(values, grouped, begin, columns, first), columns, heads);
  }
}

template <class T, int BYTES>
MLA_INLINE void attend(const DecodeProblem& problem, const DecodeUnit& unit, std::int64_t groups, Workspace<T>& room,
                       const Partial<T>& result) {
  const std::int64_t heads = problem.queries.front().size(1), grouped = heads / groups, first = unit.group * grouped;
  const auto row = static_cast<std::size_t>(unit.batch);
  std::vector<DecodePlace> places(problem.streams.size());
  std::vector<TileRows<T>> tiles(problem.streams.size());
  std::int64_t most = kDecodeTile;
  for (const DecodeStream& stream : problem.streams) {
    if (as_long_as_a_page<T>(stream.width)) most = kTileOfLongRows;
  }
  for (std::int64_t begin = unit.begin; begin < unit.end;) {
    std::int64_t count = std::min(most, unit.end - begin);
    for (std::size_t s = 0; s < places.size(); ++s) {
      places[s] = decode_place_of(problem.streams[s].rows[row], begin);
      count = std::min(count, places[s].span->tokens - places[s].index);
    }
    for (std::size_t s = 0; s < places.size(); ++s) {
      tiles[s] = tile_rows<T, BYTES>(problem.streams[s], places[s], groups, unit.group, count, room.tiles[s], room);
    }
    for (std::size_t k = 0; k < problem.keys.size(); ++k) {
      const DecodeMemory& memory = problem.keys[k];
      const std::int64_t sharing = heads / memory.memories;
      for (std::int64_t head = first; head < first + grouped;) {
        const std::int64_t last = std::min((head / sharing + 1) * sharing, first + grouped);
        Rows<T> rows = memory_rows(tiles[memory.stream], problem.streams[memory.stream], memory, head / sharing);
        if (memory.expansion.maps || memory.rotation.cosine)
          rows = made_keys(rows, memory, head / sharing, begin, count, room);
        add_logits<T, BYTES>(room.queries[k].data(), grouped, head - first, last - head, rows, count, memory.width,
                             room.logits.data(), k > 0);
        head = last;
      }
    }
    for (std::int64_t h = 0; h < grouped; ++h) {
      soften(room.logits.data() + h * kDecodeTile, count, result.most[h], result.sum[h],
             room.factor[static_cast<std::size_t>(h)]);
    }
    const DecodeMemory& memory = problem.values;
    const std::int64_t sharing = heads / memory.memories;
    for (std::int64_t head = first; head < first + grouped;) {
      const std::int64_t last = std::min((head / sharing + 1) * sharing, first + grouped), local = head - first;
      const Rows<T> rows = memory_rows(tiles[memory.stream], problem.streams[memory.stream], memory, head / sharing);
      add_values<T, BYTES>(room.logits.data() + local * kDecodeTile, room.factor.data() + local, rows, count,
                           memory.width, result.values, grouped, local, last - head);
      head = last;
    }
    begin += count;
  }
}

MLA_VECTORISED void kernel(const DecodeProblem& problem, const DecodeUnit& unit, std::int64_t groups,
                           Workspace<float>& room, const Partial<float>& result) {
  attend<float, 32>(problem, unit, groups, room, result);
}
MLA_VECTORISED void kernel(const DecodeProblem& problem, const DecodeUnit& unit, std::int64_t groups,
                           Workspace<double>& room, const Partial<double>& result) {
  attend<double, 32>(problem, unit, groups, room, result);
}
MLA_AVX512 void wide_kernel(const DecodeProblem& problem, const DecodeUnit& unit, std::int64_t groups,
                            Workspace<float>& room, const Partial<float>& result) {
  attend<float, 64>(problem, unit, groups, room, result);
}
MLA_AVX512 void wide_kernel(const DecodeProblem& problem, const DecodeUnit& unit, std::int64_t groups,
                            Workspace<double>& room, const Partial<double>& result) {
  attend<double, 64>(problem, unit, groups, room, result);
}

/// The queries of one unit, scaled, as Workspace::queries has them.
template <class T>
void gather_queries(const DecodeProblem& problem, const DecodeUnit& unit, std::int64_t grouped, Workspace<T>& room) {
  for (std::size_t k = 0; k < problem.keys.size(); ++k) {
    const at::Tensor& query = problem.queries[k];
    const std::int64_t width = problem.keys[k].width;
    std::vector<T>& to = room.queries[k];
    to.resize(static_cast<std::size_t>(grouped * width));
    const T* from = query.const_data_ptr<T>() + unit.batch * query.stride(0) + unit.group * grouped * query.stride(1);
    T* next = to.data();
    for (std::int64_t begin = 0; begin < width; begin += kChunk<T>) {
      for (std::int64_t h = 0; h < grouped; ++h) {
        const T* row = from + h * query.stride(1);
        for (std::int64_t c = begin; c < std::min(begin + kChunk<T>, width); ++c) {
          *next++ = row[c] * static_cast<T>(problem.scale);
        }
      }
    }
  }
}

template <class T>
Partial<T> partial_at(T* partials, std::int64_t index, std::int64_t grouped, std::int64_t width) {
  T* begin = partials + index * grouped * (width + 2);
  return {begin, begin + grouped * width, begin + grouped * (width + 1)};
}

/// One head's values [width] from the results of the `count` units that hold it as their head `local`: their sums,
/// relative to the largest logit.
template <class T>
void merge(const T* partials, std::int64_t first, std::int64_t count, std::int64_t grouped, std::int64_t local,
           std::int64_t width, T* values) {
  T most = -std::numeric_limits<T>::infinity(), sum = 0;
  for (std::int64_t i = first; i < first + count; ++i) {
    const Partial<const T> from = partial_at(partials, i, grouped, width);
    const T larger = std::max(most, from.most[local]);
    const T before = sum > 0 ? std::exp(most - larger) : T(0), now = std::exp(from.most[local] - larger);
    for (std::int64_t begin = 0; begin < width; begin += kPanel<T>) {
      const std::int64_t columns = std::min(kPanel<T>, width - begin);
      const T* added = block_of(from.values, grouped, begin, columns, local);
      for (std::int64_t c = 0; c < columns; ++c) values[begin + c] = values[begin + c] * before + added[c] * now;
    }
    sum = sum * before + from.sum[local] * now;
    most = larger;
  }
  for (std::int64_t c = 0; sum > 0 && c < width; ++c) values[c] /= sum;
}

template <class T>
void run(const DecodeProblem& problem, const at::Tensor& out) {
  const std::int64_t batch = out.size(0), heads = out.size(1), width = out.size(2),
                     groups = independent_groups(problem), grouped = heads / groups;
  std::vector<std::int64_t> units_before;
  const std::vector<DecodeUnit> units = plan_units(problem, batch, groups, units_before);
  const std::int64_t size = grouped * (width + 2);
  const auto partials = std::make_unique_for_overwrite<T[]>(units.size() * static_cast<std::size_t>(size));
  in_turns(std::ssize(units), [&](Turns& turns) {
    Workspace<T> room;
    room.logits.resize(static_cast<std::size_t>(grouped * kDecodeTile));
    room.factor.resize(static_cast<std::size_t>(grouped));
    room.queries.resize(problem.keys.size());
    room.tiles.resize(problem.streams.size());
    for (std::int64_t i = 0; turns.take(i);) {
      const DecodeUnit& unit = units[static_cast<std::size_t>(i)];
      const Partial<T> partial = partial_at(partials.get(), i, grouped, width);
      std::fill_n(partials.get() + i * size, size, T(0));
      std::fill_n(partial.most, grouped, -std::numeric_limits<T>::infinity());
      gather_queries(problem, unit, grouped, room);
      if (has_avx512()) {
        wide_kernel(problem, unit, groups, room, partial);
      } else {
        kernel(problem, unit, groups, room, partial);
      }
    }
  });
  T* values = out.mutable_data_ptr<T>();
  for_rows(batch * heads, std::ssize(units) * width / (batch * groups), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto group = static_cast<std::size_t>(row / grouped);
      merge(partials.get(), units_before[group], units_before[group + 1] - units_before[group], grouped, row % grouped,
            width, values + row * width);
    }
  });
}

}  // namespace

at::Tensor decode_attention(const DecodeProblem& problem) {
  expects(!problem.keys.empty() && problem.keys.size() == problem.queries.size(), "every query part has its keys");
  for (const DecodeMemory& keys : problem.keys) {
    expects(!keys.rotation.cosine || keys.memories == 1 || keys.expansion.maps,
            "keys that are rotated when read are shared by all heads, or expanded");
  }
  const at::Tensor& query = problem.queries.front();
  const at::Tensor out = at::zeros({query.size(0), query.size(1), problem.values.width}, query.options());
  with_type(query, [&]<class T>(T*) { run<T>(problem, out); });
  return out;
}

}  // namespace mla
