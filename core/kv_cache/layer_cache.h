// What one attention layer remembers of the tokens it has seen: named streams in growing buffers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace mla {

class QuantizedSequence;
struct StreamPart;
struct StreamStorage;

/// One stream of a layer's cache: what is stored for each token.
struct StreamShape {
  std::string name;        ///< "key", "value", "rope_key" or "latent"
  std::int64_t heads = 1;  ///< heads that have an entry of their own
  std::int64_t width = 0;  ///< elements of one entry
  std::int64_t elements() const { return heads * width; }
  bool operator==(const StreamShape&) const = default;
};

/// Whether the sequences of a batch, of these lengths, are as long as each other.
bool all_equal(const std::vector<std::int64_t>& values);

/// Cached elements per token of all streams together.
std::int64_t elements_per_token(const std::vector<StreamShape>& streams);

/// The storage (core/kv_cache/stream.h) of each stream of each layer; an empty function: everything as it is. Codecs
/// that differ between keys and values, or that were calibrated, are chosen in here (Codec::for_stream).
using CacheFormat = std::function<StreamStorage(std::int64_t layer, const StreamShape& stream)>;

/// The cache of one layer for a batch of sequences of any lengths. A stream that is stored as it is has one buffer
/// [batch, heads, capacity, width], which grows by whole blocks; a stream with a codec has one QuantizedSequence for
/// each sequence. A cache made by fork() has a beginning that its sequences share, stored once.
class LayerCache {
 public:
  /// Tokens by which buffers grow at least.
  static constexpr std::int64_t kBlock = 64;

  /// An empty cache for `batch` sequences (of no streams: for a layer that remembers nothing), elements of type and
  /// device of `like`. `storage` has one entry for each stream, or none: all are stored as they are.
  LayerCache(std::vector<StreamShape> streams, std::int64_t batch, const at::TensorOptions& like,
             std::vector<StreamStorage> storage);
  LayerCache(std::vector<StreamShape> streams, std::int64_t batch, const at::TensorOptions& like);
  /// A copy would write into the same buffers: select() copies, fork() shares what is never written again.
  LayerCache(const LayerCache&) = delete;
  LayerCache& operator=(const LayerCache&) = delete;
  LayerCache(LayerCache&&) noexcept;
  LayerCache& operator=(LayerCache&&) noexcept;
  ~LayerCache();

  /// Of the tokens appended until the next call of this, sequence b keeps the first counts[b]; empty: all.
  void begin_step(std::vector<std::int64_t> counts);

  /// How many of `given` tokens sequence `row` keeps in this step.
  std::int64_t takes(std::int64_t row, std::int64_t given) const;

  /// Appends `tokens` [batch, heads, count, width] to stream `index` and returns what this step attends to,
  /// [batch, heads, longest sequence, width]; sequences that are shorter are filled up with finite values. Plain
  /// streams without a shared beginning are not copied.
  at::Tensor append(std::size_t index, const at::Tensor& tokens);

  /// Appends without making one tensor of it, for kernels that read the parts where they lie.
  void push(std::size_t index, const at::Tensor& tokens);

  /// Where the tokens of sequence `row` in stream `index` lie, in order.
  std::vector<StreamPart> parts(std::size_t index, std::int64_t row) const;

  /// Makes room for `tokens` tokens in every sequence.
  void reserve(std::int64_t tokens);

  std::int64_t batch() const { return batch_; }
  const std::vector<StreamShape>& streams() const { return shapes_; }
  at::ScalarType scalar_type() const { return c10::typeMetaToScalarType(like_.dtype()); }
  bool is_plain(std::size_t index) const;
  /// Whether keys go into stream `index` before their rotation, and are rotated when read.
  bool before_rotation(std::size_t index) const;

  /// Tokens held by each sequence, and by the longest. Between the appends of one step streams may differ; these are
  /// the last stream's. For layers that have streams: how long sequences are is known to the model's cache.
  const std::vector<std::int64_t>& lengths() const;
  std::int64_t length() const;

  /// Bytes of the tokens held, counted from the buffers, not from a formula; a shared beginning counts once.
  std::int64_t bytes() const;
  /// The same from shapes and lengths alone.
  std::int64_t predicted_bytes() const;
  /// Bytes that the buffers occupy, growth reserve included.
  std::int64_t allocated_bytes() const;

  /// A cache whose sequence i is a copy of sequence rows[i] of this one; rows is int64.
  LayerCache select(const at::Tensor& rows) const;

  /// `count` sequences that continue sequence `row`. Plain streams share what it holds with each other and with this
  /// cache, which stays usable; streams with a codec share what they never write again.
  LayerCache fork(std::int64_t row, std::int64_t count) const;

  /// Forgets all tokens, or those of one sequence; keeps the buffers.
  void reset();
  void reset(std::int64_t row);

 private:
  /// A stream stored as it is.
  struct Plain {
    at::Tensor buffer;  ///< [batch, heads, capacity, width]
    at::Tensor shared;  ///< [heads, tokens, width], the common beginning; may be undefined
  };
  std::int64_t shared_tokens(std::size_t index, std::int64_t row) const;
  std::int64_t own_tokens(std::size_t index, std::int64_t row) const;
  void grow(std::size_t index, std::int64_t tokens, bool exactly);
  void store(std::size_t index, const at::Tensor& tokens);
  at::Tensor plain_rows(std::size_t index) const;

  std::vector<StreamShape> shapes_;
  std::vector<StreamStorage> storage_;
  std::int64_t batch_ = 0;
  at::TensorOptions like_;
  std::vector<std::int64_t> counts_;
  std::vector<std::vector<std::int64_t>> held_;            ///< [stream][sequence], shared beginning included
  std::vector<bool> has_shared_;                           ///< [sequence]
  std::vector<Plain> plain_;                               ///< [stream]
  std::vector<std::vector<QuantizedSequence>> quantized_;  ///< [stream][sequence]; empty for plain streams
};

}  // namespace mla
