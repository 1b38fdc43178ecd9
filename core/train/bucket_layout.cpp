#include "core/train/bucket_layout.h"

#include <ATen/ATen.h>

namespace mla {

BucketLayout::BucketLayout(const std::vector<std::size_t>& parameters, const std::vector<WeightShards::Place>& places,
                           std::int64_t rank)
    : parameters_(parameters) {
  std::vector<std::int64_t> begins(parameters.size(), 0);
  const std::size_t processes = places.at(parameters.front()).counts.size();
  for (std::size_t process = 0; process < processes; ++process) {
    const std::int64_t first = elements_;
    const bool own = static_cast<std::int64_t>(process) == rank;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const std::int64_t count = places[parameters[i]].counts[process];
      pieces_.push_back({i, begins[i], count, elements_, own});
      begins[i] += count;
      elements_ += count;
    }
    counts_.push_back(elements_ - first);
    if (own) own_begin_ = first, own_elements_ = counts_.back();
  }
}

at::Tensor BucketLayout::pack(const std::vector<at::Tensor>& flat) const {
  if (flat.size() == 1) return flat.front().to(at::kCPU).contiguous();
  std::vector<at::Tensor> parts;
  for (const Piece& piece : pieces_) parts.push_back(flat[piece.item].narrow(0, piece.begin, piece.elements));
  return at::cat(parts).to(at::kCPU);
}

void BucketLayout::put_own(const at::Tensor& buffer, const std::vector<at::Tensor>& flat) const {
  for (const Piece& piece : pieces_) {
    if (!piece.own) continue;
    const at::Tensor part = flat[piece.item].narrow(0, piece.begin, piece.elements);
    buffer.narrow(0, piece.at, piece.elements).copy_(part);
  }
}

void BucketLayout::take_all(const at::Tensor& buffer, const std::vector<at::Tensor>& flat) const {
  for (const Piece& piece : pieces_) {
    const at::Tensor part = buffer.narrow(0, piece.at, piece.elements);
    flat[piece.item].narrow(0, piece.begin, piece.elements).copy_(part);
  }
}

void BucketLayout::visit_own(const at::Tensor& own,
                             const std::function<void(std::size_t, const at::Tensor&)>& visit) const {
  for (const Piece& piece : pieces_) {
    if (piece.own) visit(parameters_[piece.item], own.narrow(0, piece.at - own_begin_, piece.elements));
  }
}

}  // namespace mla
