#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/registry.h"
#include "core/quantize/one_bit.h"
#include "experiments/conformance/related_cases.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

constexpr double kBitTolerance = 2e-4, kBinarisedTolerance = 2e-4;                // relative
constexpr double kFlippedWeightTolerance = 0.01, kFlippedOutputTolerance = 0.02;  // where a search met a tie

/// A case's tensor whose name ends so: "gauss24x256.weight".
std::optional<at::Tensor> tensor_ending(const RelatedCase& one, const std::string& end) {
  for (const auto& [part, name] : one.json().at("tensors").items()) {
    if (part.ends_with(end)) return one.tensor(name.get<std::string>());
  }
  return {};
}

at::Tensor expected_tensor(const RelatedCase& one, const std::string& end) {
  const auto found = tensor_ending(one, end);
  if (!found) throw DataError(cat(one.where(), ".tensors: none is called …", end));
  return *found;
}

/// The Hessian of the case, or that of its inputs.
at::Tensor hessian_of(const RelatedCase& one) {
  if (const auto hessian = tensor_ending(one, ".H")) return hessian->to(at::kDouble);
  const at::Tensor inputs = expected_tensor(one, ".X").to(at::kDouble);
  return 2 * at::mm(inputs.t(), inputs);
}

double squares_through(const at::Tensor& rows, const at::Tensor& hessian) {
  return (at::mm(rows, hessian) * rows).sum().item<double>();
}

/// 0: small elements, 1: large ones, 2: those of salient columns.
at::Tensor groups_of(const OneBitMatrix& made) {
  return at::where(made.salient == 1, at::full({}, 2, at::kByte), made.seconds);
}

/// The elements that are compared: all but those behind a sign of zero. Where an element is a group's mean to the last
/// bit of float32, the authors' code gives it a sign of 0 and so a ninth value, which one bit has no code for; later
/// blocks of that row make up for another error.
at::Tensor comparable(const at::Tensor& wanted, std::int64_t block) {
  at::Tensor mask = at::ones(wanted.sizes(), at::kBool);
  for (std::int64_t row = 0; row < wanted.size(0); ++row) {
    for (std::int64_t first = 0; first < wanted.size(1); first += block) {
      const at::Tensor own = wanted[row].narrow(0, first, std::min(block, wanted.size(1) - first)).contiguous();
      const std::set<float> values(own.const_data_ptr<float>(), own.const_data_ptr<float>() + own.numel());
      if (values.size() <= 8) continue;
      mask[row].narrow(0, first, wanted.size(1) - first).fill_(false);
      break;
    }
  }
  return mask;
}

/// BiLLM: groups, salient columns, break points, the binarised matrix and its errors.
class BillmCases final : public RelatedSystem {
 public:
  explicit BillmCases(Options) {}

  void run(RelatedCase& one) const override {
    const OneBitOptions options = options_of(one);
    const at::Tensor weight = expected_tensor(one, ".weight"), hessian = hessian_of(one);
    const OneBitMatrix made = one_bit(weight, hessian, options);
    const at::Tensor values = decode_one_bit(made, options.block), groups = groups_of(made),
                     wanted_groups = expected_tensor(one, "group_of_element").to(at::kByte);
    const bool flipped = !at::equal(groups, wanted_groups);
    compare_errors(one, weight.to(at::kDouble), hessian, values.to(at::kDouble), flipped);
    if (flipped) return;
    compare_groups(one, made, groups);
    const at::Tensor wanted = expected_tensor(one, "quantized"), mask = comparable(wanted, options.block);
    one.hold("quantized", (values * mask).to(at::kDouble), (wanted * mask).to(at::kDouble),
             kBitTolerance * wanted.abs().max().item<double>());
    one.hold("rows with a value that has no code",
             static_cast<double>(mask.all(1).logical_not().sum().item<std::int64_t>()), 0,
             std::ceil(0.01 * static_cast<double>(wanted.size(0))));
  }

 private:
  static OneBitOptions options_of(const RelatedCase& one) {
    const Json& json = one.json();
    OneBitOptions options;
    options.block = expected::whole_number(json, "blocksize", 8, 1 << 20, one.where());
    const std::string metric = expected::text(json, "salient_metric", one.where());
    for (const auto& [name, value] : enum_names(Saliency{})) {
      if (name == metric) options.metric = value;
    }
    if (metric != write_fields(options.metric).get<std::string>())
      throw DataError(cat(one.where(), ".salient_metric: expected hessian or magnitude, found ", brief_text(metric)));
    options.compensate = !json.at("disable_gptq").get<bool>();
    const Json& file = one.file().json;
    if (expected::has(file, "percdamp")) options.damping = expected::number(file, "percdamp", one.where());
    // The authors' code tries one column fewer than it ranks.
    if (expected::has(file, "up_lim"))
      options.most_salient = expected::whole_number(file, "up_lim", 1, 1 << 20, one.where()) - 1;
    return options;
  }

  static void compare_groups(RelatedCase& one, const OneBitMatrix& made, const at::Tensor& groups) {
    std::vector<double> columns, fractions, wanted;
    for (std::int64_t c = 0; c < made.salient.size(0); ++c) {
      if (made.salient[c].item<std::uint8_t>() == 1) columns.push_back(static_cast<double>(c));
    }
    one.hold("salient_columns", columns, expected::numbers(one.json(), "salient_columns", one.where()), 0);
    for (int group = 0; group < 3; ++group)
      fractions.push_back((groups == group).to(at::kDouble).mean().item<double>());
    one.hold("mask_fractions", fractions, expected::numbers(one.json(), "mask_fractions", one.where()), 1e-6);
    one.hold("salient_fraction", fractions[2], expected::number(one.json(), "salient_fraction", one.where()), 1e-6);
    one.hold("bits_paper", 1 + fractions[2], expected::number(one.json(), "bits_paper", one.where()), 1e-6);
    wanted = expected::numbers(one.json(), "break_points_in_saliency_units", one.where());
    const double largest = wanted.empty() ? 0 : *std::max_element(wanted.begin(), wanted.end());
    one.hold("break_points", made.break_points, wanted, kBitTolerance * largest);
    const double loss = expected::number(one.json(), "gptq_loss", one.where());
    one.hold("gptq_loss", made.loss, loss, kFlippedWeightTolerance * loss);
  }

  static void compare_errors(RelatedCase& one, const at::Tensor& weight, const at::Tensor& hessian,
                             const at::Tensor& values, bool flipped) {
    const at::Tensor error = weight - values;
    const auto hold = [&](const char* what, double found, double flipped_limit) {
      const double wanted = expected::number(one.json(), what, one.where());
      one.hold(what, found, wanted, (flipped ? flipped_limit : kBinarisedTolerance) * wanted);
    };
    hold("weight_rel_mse", error.square().sum().item<double>() / weight.square().sum().item<double>(),
         kFlippedWeightTolerance);
    hold("output_rel_err", std::sqrt(squares_through(error, hessian) / squares_through(weight, hessian)),
         kFlippedOutputTolerance);
  }
};

const Registration<RelatedSystem, BillmCases> kBillmCases("billm", "BiLLM (arXiv 2402.04291)");

}  // namespace
}  // namespace mla
