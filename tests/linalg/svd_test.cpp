#include "core/linalg/svd.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "core/base/error.h"
#include "tests/linalg/matrices.h"

namespace mla {
namespace {

using test::best_error;
using test::distance_from_orthonormal;
using test::frobenius;
using test::matrix_with_spectrum;
using ::testing::HasSubstr;

// Matrices here have at most 180 rows; LAPACK's own vectors are as far as this from orthonormal.
constexpr double kOrthonormalSingle = 5e-6;
constexpr double kOrthonormalDouble = 1e-13;
// What auto promises above the best possible error.
constexpr double kAutoExcess = 1e-6;
// The image is a product with up to 180 terms in the dtype: sqrt(180) roundings, as a share of the matrix.
constexpr double kStoredSingle = 8e-7;
constexpr double kStoredDouble = 1e-14;
// Vectors that LAPACK finds in float32 lose this share of the matrix even at full rank.
constexpr double kLapackSingle = 2e-6;
// A Gram matrix squares the condition number: it resolves singular values down to sqrt(epsilon).
constexpr double kGramFloor = 1e-7;
// Two power iterations and 10 extra columns: the error of a flat spectrum is above the best by no more than this.
constexpr double kRandomizedExcess = 0.15;

SvdOptions with_method(const std::string& method) {
  SvdOptions options;
  options.method = method;
  return options;
}

double orthonormal_tolerance(const at::Tensor& matrix) {
  return matrix.scalar_type() == at::kFloat ? kOrthonormalSingle : kOrthonormalDouble;
}
double stored_tolerance(const at::Tensor& matrix) {
  return matrix.scalar_type() == at::kFloat ? kStoredSingle : kStoredDouble;
}

const at::Tensor& gaussian(at::ScalarType dtype) { return test::spectrum_cases(dtype)[0].matrix; }

/// Ranks from 0 to full, with the edges.
std::set<std::int64_t> ranks_of(const at::Tensor& matrix) {
  const std::int64_t full = std::min(matrix.size(0), matrix.size(1));
  return {0, 1, full / 8, full / 2, full - 1, full};
}

double residual(const at::Tensor& matrix, const at::Tensor& image, const at::Tensor& right) {
  return frobenius(matrix.to(at::kDouble) - at::mm(image.to(at::kDouble), right.to(at::kDouble)));
}

struct MethodCase {
  std::string method;
  at::ScalarType dtype;
};

class SvdMethod : public ::testing::TestWithParam<MethodCase> {
 protected:
  template <class Check>
  void for_all_matrices(Check check) const {
    for (const auto& item : test::spectrum_cases(GetParam().dtype)) {
      for (const std::int64_t rank : ranks_of(item.matrix)) {
        SCOPED_TRACE(cat(item.name, ", rank ", rank));
        check(item.matrix, rank, item.values);
      }
    }
  }
  SvdOptions options() const { return with_method(GetParam().method); }
};

TEST_P(SvdMethod, ProjectsOnOrthonormalDirections) {
  for_all_matrices([&](const at::Tensor& matrix, std::int64_t rank, const auto&) {
    const RowProjection rows = project_rows(matrix, rank, options());
    ASSERT_EQ(rows.right.sizes(), (std::vector<std::int64_t>{rank, matrix.size(1)}));
    ASSERT_EQ(rows.image.sizes(), (std::vector<std::int64_t>{matrix.size(0), rank}));
    ASSERT_EQ(rows.values.sizes(), (std::vector<std::int64_t>{rank}));
    EXPECT_EQ(rows.right.scalar_type(), matrix.scalar_type());
    EXPECT_LT(distance_from_orthonormal(rows.right), orthonormal_tolerance(matrix));
    const at::Tensor image = at::mm(matrix.to(at::kDouble), rows.right.to(at::kDouble).t());
    EXPECT_LE(frobenius(rows.image.to(at::kDouble) - image), stored_tolerance(matrix) * frobenius(matrix) * 2);
    EXPECT_TRUE((rows.values >= 0).all().item<bool>());
    EXPECT_TRUE(
        (rows.values.slice(0, 1) <= rows.values.slice(0, 0, std::max<std::int64_t>(0, rank - 1))).all().item<bool>());
  });
}

TEST_P(SvdMethod, ReachesTheBestPossibleError) {
  for_all_matrices([&](const at::Tensor& matrix, std::int64_t rank, const std::vector<double>& reference) {
    const std::string& method = GetParam().method;
    const RowProjection rows = project_rows(matrix, rank, options());
    const double excess = method == "randomized" ? kRandomizedExcess : kAutoExcess;
    const bool single_lapack = (method == "exact" || method == "randomized") && matrix.scalar_type() == at::kFloat;
    const double floor =
        stored_tolerance(matrix) + (method == "gram" ? kGramFloor : 0) + (single_lapack ? kLapackSingle : 0);
    const double best = best_error(reference, rank);
    const double found = residual(matrix, rows.image, rows.right);
    EXPECT_LE(found, best * (1 + excess) + floor * frobenius(matrix));
    EXPECT_GE(found, best * (1 - kAutoExcess) - stored_tolerance(matrix) * frobenius(matrix));  // Eckart and Young
  });
}

TEST_P(SvdMethod, FindsTheSingularTriples) {
  for_all_matrices([&](const at::Tensor& matrix, std::int64_t rank, const std::vector<double>& reference) {
    const TruncatedSvd svd = truncated_svd(matrix, rank, options());
    EXPECT_LT(distance_from_orthonormal(svd.left.t()), 4 * orthonormal_tolerance(matrix));
    EXPECT_LT(distance_from_orthonormal(svd.right), 4 * orthonormal_tolerance(matrix));
    const RowProjection rows = project_rows(matrix, rank, options());
    const at::Tensor product = at::mm(svd.left.to(at::kDouble) * svd.values.to(at::kDouble), svd.right.to(at::kDouble));
    const at::Tensor projected = at::mm(rows.image.to(at::kDouble), rows.right.to(at::kDouble));
    EXPECT_LE(frobenius(product - projected), 16 * stored_tolerance(matrix) * frobenius(matrix));
    if (GetParam().method == "randomized") return;
    const double tolerance = (kGramFloor + stored_tolerance(matrix)) * (reference[0] + 1e-300);
    for (std::int64_t i = 0; i < rank; ++i) {
      EXPECT_NEAR(svd.values[i].item<double>(), reference[static_cast<std::size_t>(i)], tolerance) << i;
    }
  });
}

TEST_P(SvdMethod, RepeatsItself) {
  const at::Tensor matrix = gaussian(GetParam().dtype);
  const RowProjection first = project_rows(matrix, 30, options()), second = project_rows(matrix, 30, options());
  EXPECT_TRUE(at::equal(first.right, second.right));
  EXPECT_TRUE(at::equal(first.image, second.image));
}

TEST_P(SvdMethod, KeepsItsAccuracyAtExtremeScales) {
  const at::Tensor matrix = gaussian(GetParam().dtype);
  const double expected =
      residual(matrix, project_rows(matrix, 30, options()).image, project_rows(matrix, 30, options()).right) /
      frobenius(matrix);
  for (const double scale : {1e-25, 1e25}) {
    const at::Tensor scaled = matrix * scale;
    const RowProjection rows = project_rows(scaled, 30, options());
    EXPECT_NEAR(residual(scaled, rows.image, rows.right) / frobenius(scaled), expected, 1e-6) << scale;
  }
}

TEST_P(SvdMethod, RejectsValuesThatAreNotFinite) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    at::Tensor matrix = gaussian(GetParam().dtype).clone();
    matrix[3][5] = bad;
    try {
      project_rows(matrix, 4, options());
      FAIL() << "accepted " << bad;
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr("not finite"));
      EXPECT_THAT(error.what(), HasSubstr("[180, 140]"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, SvdMethod,
                         ::testing::Values(MethodCase{"auto", at::kFloat}, MethodCase{"auto", at::kDouble},
                                           MethodCase{"exact", at::kFloat}, MethodCase{"exact", at::kDouble},
                                           MethodCase{"gram", at::kFloat}, MethodCase{"gram", at::kDouble},
                                           MethodCase{"randomized", at::kFloat}, MethodCase{"randomized", at::kDouble}),
                         [](const auto& item) {
                           return item.param.method + (item.param.dtype == at::kFloat ? "_float32" : "_float64");
                         });

TEST(Svd, MethodsAgreeOnVectorsAndSigns) {
  constexpr double kVectors = 1e-6;
  std::vector<double> values;
  for (int i = 0; i < 150; ++i) values.push_back(std::pow(0.8, i));
  const at::Tensor matrix = matrix_with_spectrum(200, 150, values, 11);
  const RowProjection exact = project_rows(matrix, 12, with_method("exact"));
  for (const char* method : {"auto", "gram", "randomized"}) {
    SvdOptions options = with_method(method);
    options.power_iterations = 4;
    const RowProjection other = project_rows(matrix, 12, options);
    EXPECT_LT((other.right - exact.right).abs().max().item<double>(), kVectors) << method;
  }
  const at::Tensor at_largest = exact.right.abs().argmax(1, true);
  EXPECT_TRUE((exact.right.gather(1, at_largest) > 0).all().item<bool>());
}

TEST(Svd, AutoTakesTheCheapestSafeMethod) {
  const at::Tensor flat = gaussian(at::kDouble);
  EXPECT_EQ(project_rows(flat.to(at::kFloat), 40, {}).method, "gram_float32");
  EXPECT_EQ(project_rows(flat, 40, {}).method, "gram_float64");
  const auto& cases = test::spectrum_cases(at::kFloat);
  const auto power_law =
      std::find_if(cases.begin(), cases.end(), [](const auto& item) { return item.name == "power_law"; });
  EXPECT_EQ(project_rows(power_law->matrix, 70, {}).method, "gram_float32");
  // A loud direction and a faint rest: in float32 the Gram matrix would lose the rest.
  std::vector<double> values(150, 1e-3);
  values[0] = 1;
  for (std::size_t i = 1; i < values.size(); ++i) values[i] *= std::pow(0.98, static_cast<double>(i));
  EXPECT_EQ(project_rows(matrix_with_spectrum(200, 150, values, 12).to(at::kFloat), 75, {}).method, "gram_float64");
  const at::Tensor steep = matrix_with_spectrum(200, 150, {1, 1e-7, 1e-9, 1e-10, 1e-11}, 13);
  EXPECT_EQ(project_rows(steep, 2, {}).method, "exact");
}

TEST(Svd, SeedDecidesTheSketch) {
  const at::Tensor matrix = gaussian(at::kDouble);
  SvdOptions other = with_method("randomized");
  other.seed = 1;
  EXPECT_FALSE(
      at::equal(project_rows(matrix, 30, with_method("randomized")).right, project_rows(matrix, 30, other).right));
}

TEST(Svd, PowerIterationsBringTheErrorDown) {
  const at::Tensor matrix = gaussian(at::kDouble);
  SvdOptions options = with_method("randomized");
  double before = std::numeric_limits<double>::infinity();
  for (const std::int64_t passes : {0, 1, 4, 16}) {
    options.power_iterations = passes;
    const RowProjection rows = project_rows(matrix, 30, options);
    const double error = residual(matrix, rows.image, rows.right);
    EXPECT_LT(error, before) << passes;
    before = error;
  }
}

TEST(Svd, RankOutOfRangeIsABrokenPromise) {
  const at::Tensor matrix = at::ones({3, 5});
  EXPECT_THROW(project_rows(matrix, 4, {}), std::logic_error);
  EXPECT_THROW(project_rows(matrix, -1, {}), std::logic_error);
  EXPECT_THROW(project_rows(at::ones({3, 5}, at::kLong), 1, {}), std::logic_error);
}

TEST(Svd, EmptyMatrixHasNoTriples) {
  const RowProjection rows = project_rows(at::empty({0, 5}), 0, {});
  EXPECT_EQ(rows.right.sizes(), (std::vector<std::int64_t>{0, 5}));
  EXPECT_EQ(rows.image.sizes(), (std::vector<std::int64_t>{0, 0}));
}

TEST(SvdOptions, NamesTheMistake) {
  SvdOptions options = with_method("grm");
  try {
    options.validate("compress[0].low_rank.svd");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("compress[0].low_rank.svd.method: no 'grm'; did you mean 'gram'?"));
  }
  options = {};
  options.oversampling = -1;
  EXPECT_THROW(options.validate("svd"), ConfigError);
  options = {};
  options.power_iterations = -1;
  EXPECT_THROW(options.validate("svd"), ConfigError);
}

}  // namespace
}  // namespace mla
