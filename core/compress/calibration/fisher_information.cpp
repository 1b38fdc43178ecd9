#include "core/compress/calibration/fisher_information.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/compress/calibration/loss_gradients.h"

namespace mla {

TensorMap fisher_information(const Decoder& decoder, const TokenRowList& rows, const std::vector<std::string>& maps) {
  TensorMap squares;
  double count = 0;
  for_row_gradients(decoder, rows, [&](std::int64_t predicted, const TensorMap& gradients) {
    for (const auto& [name, gradient] : gradients) {
      const auto ends = [&layer_map = name](const std::string& map) { return layer_map.ends_with("." + map); };
      if (std::none_of(maps.begin(), maps.end(), ends)) continue;
      const at::Tensor square = (gradient.to(at::kDouble) / static_cast<double>(predicted)).square();
      at::Tensor& sum = squares[name];
      sum = sum.defined() ? sum + square : square;
    }
    ++count;
  });
  for (auto& [name, sum] : squares) sum = (sum / count).sqrt();
  return squares;
}

}  // namespace mla
