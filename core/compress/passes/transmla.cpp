#include <ATen/ATen.h>

#include "core/base/registry.h"
#include "core/compress/layers/shared_key.h"

namespace mla {
namespace {

/// TransMLA (arXiv 2502.07864): the keys of all heads are turned, by rotations over heads that commute with those of
/// positions, into their principal components; the leading ones become one rotated key for all heads (RoRoPE), with
/// neighbouring frequencies taken as one (FreqFold). The others and the values, scaled to the same mean norm, are read
/// from a latent: their principal components on calibration inputs. Weights only; nothing is trained.
class TransMla final : public Pass {
 public:
  struct Options {
    SharedKeyOptions shared;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      SharedKeyOptions::fields(self.shared, visit);
    }
    void validate(const std::string& path) const { shared.validate(path); }
  };

  TransMla(const Options& options, const std::string& path)
      : damping_(options.shared.damping), conversion_(options.shared, LatentInputs::kRotated, path) {}

  Requirements requirements() const override { return conversion_.requirements(); }
  bool reads_rows() const override { return conversion_.reads_rows(); }
  bool measures_shapes() const override { return conversion_.chooses_layout(); }
  ModelSpec plan(const ModelSpec& spec) const override { return conversion_.plan(spec); }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const auto fit = [&](const LatentProblem& problem, std::int64_t rank) {
      return principal_components(problem, rank);
    };
    return conversion_.apply(decoder, inputs, fit, {});
  }

 private:
  LatentMaps principal_components(const LatentProblem& problem, std::int64_t rank) const {
    at::Tensor moment = problem.moment.clone();
    moment.diagonal().add_(damping_ * moment.diagonal().mean());
    const auto [ascending, vectors] = at::linalg_eigh(moment);
    const at::Tensor basis = vectors.flip(1).narrow(1, 0, rank);
    const at::Tensor values = ascending.flip(0).narrow(0, 0, rank).clamp_min(0).sqrt().to(at::kCPU).contiguous();
    return {basis.t(), basis, {values.const_data_ptr<double>(), values.const_data_ptr<double>() + rank}};
  }

  double damping_;
  SharedKeyConversion conversion_;
};

const Registration<Pass, TransMla> kTransMla(
    "transmla", "one rotated key for all heads, and a latent of principal components (TransMLA, arXiv 2502.07864)");

}  // namespace
}  // namespace mla
