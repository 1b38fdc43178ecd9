// What one attention layer remembers of the tokens it has seen: named streams in growing buffers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace mla {

/// One stream of a layer's cache: what is stored for each token.
struct StreamShape {
  std::string name;         ///< for example "rope_key", "latent"
  std::int64_t heads = 1;   ///< heads that have an entry of their own
  std::int64_t width = 0;   ///< elements of one entry
  std::int64_t elements() const { return heads * width; }
  bool operator==(const StreamShape&) const = default;
};

/// Cached elements per token of all streams together.
std::int64_t elements_per_token(const std::vector<StreamShape>& streams);

/// The cache of one layer. Each stream is one buffer [batch, heads, capacity, width] whose capacity doubles when full,
/// so that appending one token costs amortised constant time. All sequences of the batch have the same length.
class LayerCache {
 public:
  /// An empty cache for `batch` sequences, elements of type and device of `like`.
  LayerCache(std::vector<StreamShape> streams, std::int64_t batch, const at::TensorOptions& like);

  /// Appends `tokens` [batch, heads, count, width] to stream `index` and returns all of it, [batch, heads, length, width].
  at::Tensor append(std::size_t index, const at::Tensor& tokens);

  /// Tokens held. Between the appends of one step streams may differ; this is the first stream's length.
  std::int64_t length() const { return streams_.empty() ? 0 : streams_.front().length; }

  /// Bytes of the tokens held, counted from the buffers' views, not from a formula.
  std::int64_t bytes() const;

  /// Bytes that the buffers occupy, growth reserve included.
  std::int64_t allocated_bytes() const;

  /// A cache whose sequence i is a copy of sequence rows[i] of this one; rows is int64.
  LayerCache select(const at::Tensor& rows) const;

  /// Forgets all tokens; keeps the buffers.
  void reset();

 private:
  struct Stream {
    StreamShape shape;
    at::Tensor buffer;
    std::int64_t length = 0;
  };
  std::vector<Stream> streams_;
};

}  // namespace mla
