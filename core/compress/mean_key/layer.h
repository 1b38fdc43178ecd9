// A layer of mean-key latent attention made of its maps, and how far its output is from the source's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/attention/grouped_query.h"
#include "core/compress/mean_key/fit.h"
#include "core/model/decoder.h"

namespace mla {

/// What a converted layer is apart from its numbers.
struct MeanKeyShape {
  bool dual = true, position = true;
  /// A layer of kind `latent` with a rotated key for all heads and no biases, which other engines hold.
  bool servable = false;
  std::int64_t latent = 0;
  std::vector<std::int64_t> slots;  ///< the pair of each
};

/// The description of the layer; `source` are its heads before.
std::shared_ptr<const AttentionSpec> mean_key_spec(const HeadFields& source, const MeanKeyShape& shape);

/// The layer itself, from `source`; new maps get dtype `weights`, absent: that of the source's keys.
std::unique_ptr<Attention> mean_key_attention(GroupedQueryAttention& source, const MeanKeyShape& shape,
                                              const MeanKeyMaps& maps, std::optional<at::ScalarType> weights);

/// What enters and leaves the attention of one layer of the source, for a few rows.
class LayerSample {
 public:
  /// Batches are told of in the order of the taps: kLayerInput, kAttentionInput, kAttentionOutput. `rows` at most are
  /// kept.
  explicit LayerSample(std::int64_t rows) : left_(rows) {}
  void see(Tap tap, const at::Tensor& tensor);
  /// Whether there was no row of two tokens.
  bool empty() const { return outputs_.empty(); }

  /// The squared difference of another layer's output on these inputs: relative to the variance of the source's output,
  /// and of a token over the median squared norm of the stream before the layer. Without the first positions.
  struct Error {
    double relative = 0, in_stream = 0;
  };
  Error error(const Attention& attention, const Decoder& decoder) const;

 private:
  std::int64_t left_;
  std::vector<at::Tensor> streams_, inputs_, outputs_;  ///< [rows, length, hidden]
};

}  // namespace mla
