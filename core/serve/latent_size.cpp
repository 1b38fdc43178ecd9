#include "core/serve/latent_size.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace mla {

double measure_latents(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& rows,
                       const std::function<void(std::int64_t)>& advance) {
  const c10::InferenceMode guard;
  double largest = 0;
  const Observer observer{{Tap::kLatent}, [&](Tap, std::int64_t, const at::Tensor& latent) {
                            const at::Tensor size = latent.to(at::kFloat).square().mean(-1).sqrt();
                            largest = std::max(largest, size.max().item<double>());
                          }};
  for (const std::vector<std::int32_t>& row : rows) {
    decoder.observe(at::tensor(row, at::kLong).unsqueeze(0), observer);
    advance(std::ssize(row));
  }
  return largest;
}

}  // namespace mla
