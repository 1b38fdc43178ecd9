// How parameters of which each process has a part lie in one message.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "core/train/weight_shards.h"

namespace mla {

/// Some parameters in one buffer, process by process: of each its parts of all of them. A single parameter lies there
/// as it is.
class BucketLayout {
 public:
  /// `parameters` are numbers into `places`, the parts of this process in which are those of `rank`.
  BucketLayout(const std::vector<std::size_t>& parameters, const std::vector<WeightShards::Place>& places,
               std::int64_t rank);

  const std::vector<std::size_t>& parameters() const { return parameters_; }
  std::int64_t elements() const { return elements_; }
  const std::vector<std::int64_t>& counts() const { return counts_; }  ///< elements by process
  std::int64_t own_elements() const { return own_elements_; }

  /// The buffer, on the CPU, of flat tensors in the order of parameters(); of a single one no copy.
  at::Tensor pack(const std::vector<at::Tensor>& flat) const;
  /// Copies between the buffer and such tensors: this process's parts into it, everybody's out of it.
  void put_own(const at::Tensor& buffer, const std::vector<at::Tensor>& flat) const;
  void take_all(const at::Tensor& buffer, const std::vector<at::Tensor>& flat) const;

  /// Calls `visit` with this process's part of each parameter, of a tensor that holds these alone.
  void visit_own(const at::Tensor& own,
                 const std::function<void(std::size_t parameter, const at::Tensor& part)>& visit) const;

 private:
  struct Piece {
    std::size_t item = 0;                  ///< of parameters_
    std::int64_t begin = 0, elements = 0;  ///< of that parameter
    std::int64_t at = 0;                   ///< in the buffer
    bool own = false;
  };
  std::vector<std::size_t> parameters_;
  std::vector<Piece> pieces_;
  std::vector<std::int64_t> counts_;
  std::int64_t elements_ = 0, own_begin_ = 0, own_elements_ = 0;
};

}  // namespace mla
