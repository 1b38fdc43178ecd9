// Codecs against the outputs of the public packages, by the host's kernels and by the operations that other devices
// have.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/registry.h"
#include "core/model/safetensors.h"
#include "core/ops/kernel_scope.h"
#include "core/quantize/codebook.h"
#include "core/quantize/round_trip.h"
#include "tests/support/shared_data.h"

namespace mla {
namespace {

constexpr const char* kFolder = "data/conformance/quantizers";
constexpr double kValueTolerance = 1e-6;   // of max |x|
constexpr double kFlippedCodes = 1e-4;     // share that may be off by one, HQQ
constexpr double kZeroTolerance = 5e-3;    // relative, HQQ
constexpr double kMseTolerance = 5e-3;     // relative
constexpr double kHqqMseTolerance = 1e-2;  // relative

Json codec_of(const Json& c) {
  const std::string name = c["quantizer"];
  Json codec = {{"name", name}, {"bits", c["bits"]}};
  if (name == "rtn") codec["per"] = c["per"];
  if (name == "hqq") {
    for (const char* key : {"version", "optimize", "axis", "group_size"}) codec[key] = c[key];
  }
  if (name == "quanto") {
    for (const char* key : {"axis", "group_size"}) codec[key] = c[key];
  }
  if (name == "kivi") {
    codec["group_size"] = c["group_size"];
    codec["tensor"] = c["tensor"];
    codec["dtype"] = c["dtype"] == "f16" ? "float16" : "float32";
  }
  return codec;
}

/// A package's cases, with the host's kernels or without.
using PackageCases = std::pair<std::string, bool>;

class Conformance : public testing::TestWithParam<PackageCases> {};

TEST_P(Conformance, CodesValuesAndErrors) {
  MLA_NEEDS_SHARED(kFolder);
  const auto& [package, kernels] = GetParam();
  const KernelScope scope(kernels);
  const std::filesystem::path folder = test::shared_folder() / kFolder;
  const Json cases = read_json(folder / (package + ".json"));
  const WeightMap inputs = read_safetensors(folder / "inputs.safetensors");
  const WeightMap wanted = read_safetensors(folder / (package + ".safetensors"));
  std::int64_t flipped = 0, compared = 0;
  for (const Json& c : cases) {
    SCOPED_TRACE(c["id"].get<std::string>());
    const at::Tensor& x = inputs.at(c["input"]);
    const auto codec = Registry<Codec>::instance().make(codec_of(c), "codec");
    if (c.contains("failed")) {
      EXPECT_THROW(round_trip(*codec, x), ConfigError);
      continue;
    }
    const bool hqq = c["quantizer"] == "hqq";
    const RoundTrip trip = round_trip(*codec, x);
    EXPECT_DOUBLE_EQ(trip.effective_bits(), c["effective_bits"].get<double>());
    const double largest = x.abs().max().item<double>();
    const Json& error = c["error"];
    // KIVI's float16 errors are against the rounded input.
    const bool half = c.value("dtype", "") == "f16";
    const TensorError found = tensor_error(half ? x.to(at::kHalf).to(at::kFloat) : x, trip.decoded);
    EXPECT_NEAR(found.mse, error["mse"].get<double>(),
                (hqq ? kHqqMseTolerance : kMseTolerance) * error["mse"].get<double>() + 1e-14);
    EXPECT_EQ(found.finite, error["finite"].get<bool>());
    if (c.contains("iterations") && !c["iterations"].is_null()) {
      EXPECT_NEAR(static_cast<double>(trip.report.error_trace.size()), c["iterations"].get<double>(), 1);
    }
    const Json& tensors = c["tensors"];
    if (tensors.contains("dequant")) {
      const at::Tensor dequant = wanted.at(tensors["dequant"]);
      EXPECT_LE((dequant - trip.decoded).abs().max().item<double>(), (hqq ? 1e-2 : kValueTolerance) * largest);
    }
    for (const auto& [name, mine] : codec->parts(trip.packed)) {
      if (!tensors.contains(name)) continue;
      SCOPED_TRACE(name);
      const at::Tensor& want = wanted.at(tensors[name]);
      ASSERT_EQ(mine.sizes(), want.sizes());
      const at::Tensor difference = (want.to(at::kDouble) - mine.to(at::kDouble)).abs();
      // 0 / 0 made KIVI's codes there.
      const bool undefined = c["quantizer"] == "kivi" && trip.packed.scale.eq(0).any().item<bool>();
      if (name == "codes" && hqq) {
        EXPECT_LE(difference.max().item<double>(), 1);
        flipped += static_cast<std::int64_t>(difference.sum().item<double>());
        compared += difference.numel();
      } else if (name == "codes" || name == "packed") {
        if (undefined || hqq) continue;
        EXPECT_EQ(difference.max().item<double>(), 0);
      } else {
        EXPECT_LE(difference.max().item<double>(),
                  (hqq ? kZeroTolerance : kValueTolerance) * want.abs().max().item<double>());
      }
    }
  }
  if (compared > 0) {
    RecordProperty("flipped_codes", static_cast<int>(flipped));
    EXPECT_LE(static_cast<double>(flipped), kFlippedCodes * static_cast<double>(compared));
  }
}

/// Vectors of the case's tensor file as JSON, for the options of KVQuant.
Json numbers(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kDouble).contiguous();
  return std::vector<double>(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
}

class KvQuantKernels : public testing::TestWithParam<bool> {};

TEST_P(KvQuantKernels, ValuesMasksAndCodebooks) {
  MLA_NEEDS_SHARED(kFolder);
  const KernelScope scope(GetParam());
  const std::filesystem::path folder = test::shared_folder() / kFolder;
  const WeightMap tensors = read_safetensors(folder / "kvquant.safetensors");
  for (const Json& c : read_json(folder / "kvquant.json")) {
    SCOPED_TRACE(c["id"].get<std::string>());
    Json options = {{"name", "kvquant"}};
    for (const char* key : {"bits", "tensor", "variant", "sparsity_threshold", "first_few_fp16", "cap_outliers"})
      options[key] = c[key];
    Json given = options;
    for (const char* key : {"codebook", "upper", "lower"}) {
      if (c["tensors"].contains(key)) given[key] = numbers(tensors.at(c["tensors"][key]));
    }
    const auto codec = Registry<Codec>::instance().make(given, "codec");
    const at::Tensor& x = tensors.at(c["input"]);
    const RoundTrip trip = round_trip(*codec, x);
    EXPECT_TRUE(at::equal(trip.decoded.to(at::kHalf), tensors.at(c["tensors"]["dequant_f16"])));
    for (const auto& [name, mine] : codec->parts(trip.packed)) {
      if (name != "mask" || !c["tensors"].contains("mask")) continue;
      const at::Tensor& mask = tensors.at(c["tensors"]["mask"]);
      const std::int64_t first = codec->first_tokens();
      EXPECT_TRUE(mask.narrow(0, 0, first).eq(1).all().item<bool>());
      EXPECT_TRUE(at::equal(mine, mask.narrow(0, first, mask.size(0) - first)));
    }
    // Calibrated here: the same thresholds, and a codebook that is as good.
    const StreamSample sample{tensors.at(c["calib"]), tensors.at(c["fisher"])};
    const auto fitted = Registry<Codec>::instance().make(options, "codec")->for_stream("key", &sample);
    for (const auto& [name, mine] : fitted->parts(fitted->encode(x))) {
      if (name != "upper" && name != "lower") continue;
      EXPECT_TRUE(at::equal(mine, tensors.at(c["tensors"][name]).to(at::kHalf).to(at::kFloat))) << name;
    }
  }
}

TEST(KvQuantConformance, KmeansIsAtLeastAsGoodAsThePackages) {
  MLA_NEEDS_SHARED(kFolder);
  const std::filesystem::path folder = test::shared_folder() / kFolder;
  const WeightMap tensors = read_safetensors(folder / "kvquant.safetensors");
  for (const Json& c : read_json(folder / "kvquant.json")) {
    if (!c.contains("weighted_inertia_sklearn")) continue;
    SCOPED_TRACE(c["id"].get<std::string>());
    // Normalised as KVQuant normalises; the stored inertias fix the definition.
    const std::int64_t axis = c["tensor"] == "k" ? 0 : 1;
    const at::Tensor x = tensors.at(c["calib"]);
    const double t = c["variant"].get<std::string>().find('1') == std::string::npos
                         ? 1
                         : 1 - (1 - c["sparsity_threshold"].get<double>()) / 2;
    const at::Tensor edges =
        at::quantile(x.to(at::kDouble), at::tensor({t, 1 - t}, at::kDouble), axis, true).to(at::kFloat);
    const at::Tensor normalised = (x - (edges[0] + edges[1]) / 2) / ((edges[0] - edges[1]) / 2);
    at::Tensor kept = normalised.abs().le(1);
    if (c["first_few_fp16"].get<int>() > 0) kept.narrow(0, 0, c["first_few_fp16"].get<int>()).fill_(false);
    EXPECT_NEAR(1 - kept.to(at::kDouble).mean().item<double>(), c["calib_outlier_fraction"].get<double>(), 1e-12);
    const at::Tensor points = normalised.masked_select(kept), weights = tensors.at(c["fisher"]).masked_select(kept);
    const auto size = static_cast<std::size_t>(points.numel());
    const std::span<const float> values(points.const_data_ptr<float>(), size),
        weight(weights.const_data_ptr<float>(), size);
    const auto inertia = [&](const std::vector<double>& book) { return weighted_inertia(values, weight, book); };
    const double package = c["weighted_inertia_sklearn"], known = c["weighted_inertia_near_optimal"];
    EXPECT_NEAR(inertia(c["codebook_sorted"].get<std::vector<double>>()), package, 1e-5 * package);
    EXPECT_LE(inertia(weighted_kmeans(values, weight, std::int64_t{1} << c["bits"].get<int>())), known * (1 + 1e-5));
  }
}

TEST(KvQuantConformance, NormalFloatSignposts) {
  MLA_NEEDS_SHARED(kFolder);
  for (const Json& c : read_json(test::shared_folder() / kFolder / "kvquant.json")) {
    if (!c.contains("nf_signposts")) continue;
    const auto wanted = c["nf_signposts"].get<std::vector<double>>();
    const std::vector<double> mine = normal_float_codebook(c["bits"]);
    ASSERT_EQ(mine.size(), wanted.size());
    for (std::size_t i = 0; i < mine.size(); ++i) EXPECT_NEAR(mine[i], wanted[i], 1e-6);
  }
}

std::vector<PackageCases> package_cases() {
  std::vector<PackageCases> all;
  for (const char* package : {"rtn", "quanto", "kivi", "hqq022", "hqq022opt", "hqq028"}) {
    for (const bool kernels : {true, false}) all.emplace_back(package, kernels);
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Packages, Conformance, testing::ValuesIn(package_cases()), [](const auto& test) {
  return test.param.first + (test.param.second ? "" : "_by_operations");
});
INSTANTIATE_TEST_SUITE_P(Packages, KvQuantKernels, testing::Bool(),
                         [](const auto& test) { return test.param ? "kernels" : "by_operations"; });

}  // namespace
}  // namespace mla
