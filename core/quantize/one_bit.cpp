#include "core/quantize/one_bit.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/ops/one_bit_rows.h"
#include "core/quantize/codec.h"
#include "core/quantize/one_bit_search.h"

namespace mla {
namespace {

/// Of the damped Hessian: the upper Cholesky factor of its inverse, and that inverse's diagonal. Undefined: as if it
/// were the identity.
struct InverseHessian {
  at::Tensor factor, diagonal;
  at::Tensor unreached;  ///< columns that no input ever reaches, bool
};

InverseHessian invert(const at::Tensor& given, double damping) {
  if (!given.defined()) return {};
  at::Tensor hessian = given.to(at::kCPU, at::kDouble).clone();
  InverseHessian inverse;
  inverse.unreached = hessian.diagonal() == 0;
  hessian.diagonal().add_(inverse.unreached.to(at::kDouble));
  hessian.diagonal().add_(damping * hessian.diagonal().mean().item<double>());
  const auto factor_of = [](const at::Tensor& matrix, bool upper) {
    const auto [factor, failed] = at::linalg_cholesky_ex(matrix, upper);
    if (failed.item<std::int32_t>() != 0 || !factor.isfinite().all().item<bool>())
      throw DataError("the second moment of its inputs has no Cholesky factor; more damping may help");
    return factor.contiguous();
  };
  const at::Tensor whole = at::cholesky_inverse(factor_of(hessian, false));
  inverse.factor = factor_of(whole, true);
  inverse.diagonal = whole.diagonal().contiguous();
  return inverse;
}

at::Tensor saliency_of(const at::Tensor& block, const at::Tensor& divisors, Saliency metric) {
  if (metric == Saliency::kMagnitude) return block;
  return (divisors.defined() ? block.square() / divisors.square() : block.square()).contiguous();
}

/// Rounded as it will be stored.
float stored_scale(double value, at::ScalarType type) {
  const float narrow =
      type == at::kHalf ? static_cast<float>(c10::Half(static_cast<float>(value))) : static_cast<float>(value);
  if (!std::isfinite(narrow))
    throw DataError(cat("a scale of ", value, " is beyond ", type == at::kHalf ? "float16" : "float32"));
  return narrow;
}

/// What becomes of one row of a block.
struct RowCodes {
  std::uint8_t *signs, *seconds;
  float* scales;   ///< 4 or 7
  double* values;  ///< what they stand for
};

void encode_row(const double* x, std::int64_t columns, const std::uint8_t* salient, const std::uint8_t* large,
                const OneBitOptions& options, const RowCodes& to) {
  std::vector<double> groups[3];
  for (std::int64_t c = 0; c < columns; ++c) groups[salient[c] ? 2 : large[c]].push_back(x[c]);
  Binarised once[3];
  for (int g = 0; g < 3; ++g) once[g] = binarise(groups[g].data(), std::ssize(groups[g]), options.centred);
  for (double& value : groups[2]) value -= once[2].value(value);
  const Binarised rest = binarise(groups[2].data(), std::ssize(groups[2]), options.centred);
  for (int g = 0; g < 3; ++g) to.scales[g] = stored_scale(once[g].scale, options.scales);
  to.scales[3] = stored_scale(rest.scale, options.scales);
  if (options.centred) {
    to.scales[4] = stored_scale(once[0].mean, options.scales);
    to.scales[5] = stored_scale(once[1].mean, options.scales);
    to.scales[6] = stored_scale(once[2].mean + rest.mean, options.scales);
  }
  float levels[8];
  one_bit_levels(to.scales, options.centred, levels);
  for (std::int64_t c = 0; c < columns; ++c) {
    const Binarised& own = once[salient[c] ? 2 : large[c]];
    to.signs[c] = x[c] >= own.mean;
    const bool second = salient[c] ? x[c] - own.value(x[c]) >= rest.mean : large[c] == 1;
    to.seconds[c] = second;
    to.values[c] = static_cast<double>(levels[to.signs[c] + 2 * to.seconds[c] + 4 * salient[c]]);
  }
}

void expect_finite(const at::Tensor& weight) {
  const at::Tensor wrong = weight.isfinite().logical_not().nonzero();
  if (wrong.size(0) == 0) return;
  const std::int64_t row = wrong[0][0].item<std::int64_t>(), column = wrong[0][1].item<std::int64_t>();
  throw DataError(cat("element [", row, ", ", column, "] = ", weight[row][column].item<double>(),
                      ": is no number that ", "codes could stand for"));
}

/// A matrix on its way to codes, block by block.
class Encoder {
 public:
  Encoder(const at::Tensor& weight, const at::Tensor& hessian, const OneBitOptions& options)
      : options_(options),
        weight_(weight.detach().to(at::kCPU, at::kDouble).contiguous().clone()),
        inverse_(invert(hessian, options.damping)),
        rows_(weight.size(0)),
        columns_(weight.size(1)),
        blocks_((columns_ + options.block - 1) / options.block),
        numbers_(options.centred ? kCentredOneBitScales : kOneBitScales) {
    expect_finite(weight_);
    if (inverse_.unreached.defined()) weight_.masked_fill_(inverse_.unreached, 0);
    made_.signs = at::zeros({rows_, columns_}, at::kByte);
    made_.seconds = at::zeros({rows_, columns_}, at::kByte);
    made_.salient = at::zeros({columns_}, at::kByte);
    made_.scales = at::zeros({rows_, blocks_, numbers_}, at::kFloat);
  }

  OneBitMatrix run() {
    for (std::int64_t block = 0; block < blocks_; ++block) encode_block(block);
    made_.scales = made_.scales.to(options_.scales);
    return std::move(made_);
  }

 private:
  void encode_block(std::int64_t block) {
    const std::int64_t first = block * options_.block, columns = std::min(options_.block, columns_ - first);
    const at::Tensor own = weight_.narrow(1, first, columns).contiguous();
    const at::Tensor diagonal =
        inverse_.factor.defined() ? inverse_.factor.diagonal().narrow(0, first, columns) : inverse_.factor;
    const bool whole = options_.diagonal == SaliencyDiagonal::kInverse && inverse_.diagonal.defined();
    const at::Tensor saliency =
        saliency_of(own, whole ? inverse_.diagonal.narrow(0, first, columns) : diagonal, options_.metric);
    const BlockPartition partition = divide_block({own.const_data_ptr<double>(), rows_, columns},
                                                  {saliency.const_data_ptr<double>(), rows_, columns}, options_);
    made_.break_points.push_back(partition.break_point);
    const at::Tensor values = encode(own, block, partition);
    if (!options_.compensate || !inverse_.factor.defined()) return;
    const at::Tensor error = (own - values) / diagonal;
    made_.loss += error.square().sum().item<double>() / 2;
    const std::int64_t next = first + columns;
    weight_.narrow(1, next, columns_ - next)
        .sub_(at::mm(error, inverse_.factor.narrow(0, first, columns).narrow(1, next, columns_ - next)));
  }

  /// Returns what the codes stand for, [rows, columns of the block].
  at::Tensor encode(const at::Tensor& own, std::int64_t block, const BlockPartition& partition) {
    const std::int64_t first = block * options_.block, columns = own.size(1);
    std::copy(partition.salient.begin(), partition.salient.end(),
              made_.salient.mutable_data_ptr<std::uint8_t>() + first);
    at::Tensor values = at::empty_like(own);
    for (std::int64_t row = 0; row < rows_; ++row) {
      encode_row(own.const_data_ptr<double>() + row * columns, columns, partition.salient.data(),
                 partition.large.data() + row * columns, options_,
                 {made_.signs.mutable_data_ptr<std::uint8_t>() + row * columns_ + first,
                  made_.seconds.mutable_data_ptr<std::uint8_t>() + row * columns_ + first,
                  made_.scales.mutable_data_ptr<float>() + (row * blocks_ + block) * numbers_,
                  values.mutable_data_ptr<double>() + row * columns});
    }
    return values;
  }

  const OneBitOptions& options_;
  at::Tensor weight_;
  InverseHessian inverse_;
  std::int64_t rows_, columns_, blocks_, numbers_;
  OneBitMatrix made_;
};

}  // namespace

std::vector<std::pair<std::string, Saliency>> enum_names(Saliency) {
  return {{"hessian", Saliency::kHessian}, {"magnitude", Saliency::kMagnitude}};
}
std::vector<std::pair<std::string, SaliencyDiagonal>> enum_names(SaliencyDiagonal) {
  return {{"cholesky", SaliencyDiagonal::kCholesky}, {"inverse", SaliencyDiagonal::kInverse}};
}
std::vector<std::pair<std::string, SearchedMatrix>> enum_names(SearchedMatrix) {
  return {{"saliency", SearchedMatrix::kSaliency}, {"weights", SearchedMatrix::kWeights}};
}
std::vector<std::pair<std::string, BreakPoints>> enum_names(BreakPoints) {
  return {{"percentiles", BreakPoints::kPercentiles}, {"fractions", BreakPoints::kFractions}};
}

OneBitMatrix one_bit(const at::Tensor& weight, const at::Tensor& hessian, const OneBitOptions& options) {
  return Encoder(weight, hessian, options).run();
}

at::Tensor decode_one_bit(const OneBitMatrix& matrix, std::int64_t block) {
  const at::Tensor signs = pack_rows(matrix.signs, 1), seconds = pack_rows(matrix.seconds, 1),
                   salient = pack_rows(matrix.salient.unsqueeze(0), 1);
  const at::Tensor out = at::empty({matrix.signs.size(0), matrix.signs.size(1)}, at::kFloat);
  one_bit_rows(
      {signs.const_data_ptr<std::uint8_t>(), seconds.const_data_ptr<std::uint8_t>(),
       salient.const_data_ptr<std::uint8_t>(), matrix.scales.const_data_ptr(), matrix.scales.scalar_type() == at::kHalf,
       matrix.scales.size(2) == kCentredOneBitScales, out.size(1), block},
      0, out.size(0), out.mutable_data_ptr<float>());
  return out;
}

}  // namespace mla
