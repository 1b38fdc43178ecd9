#include "experiments/conformance/codec_cases.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/base/suggest.h"
#include "core/quantize/limits.h"
#include "experiments/cache/codec_round_trip.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

constexpr double kValueTolerance = 1e-6;  // of max |x|
constexpr double kHqqZeroTolerance = 5e-3;
constexpr double kHqqFlips = 1e-4;
constexpr double kMseTolerance = 5e-3;
constexpr double kHqqMseTolerance = 1e-2;
constexpr double kMseFloor = 1e-14;

const at::Tensor& tensor_of(const WeightMap& tensors, const std::string& name, const std::string& where) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw DataError(cat(where, ": no tensor '", name, "' in the files beside it"));
  return found->second;
}

/// The tensor that the case names under `key`, of the inputs.
const at::Tensor& input_of(const CodecCase& one, const CodecCaseFile& file, const std::string& key) {
  return tensor_of(file.inputs, expected::text(one.json, key, one.where), cat(one.where, ".", key));
}

/// The tensors a case is held against, by part: from the case's own file.
std::map<std::string, at::Tensor> expected_tensors(const CodecCase& one, const CodecCaseFile& file) {
  std::map<std::string, at::Tensor> tensors;
  if (!expected::has(one.json, "file") || !expected::has(one.json, "tensors")) return tensors;
  const WeightMap& beside = file.expected.at(expected::text(one.json, "file", one.where));
  const std::string where = one.where + ".tensors";
  for (const auto& [part, name] : one.json["tensors"].items()) {
    tensors[part] = tensor_of(beside, expected::text(one.json["tensors"], part, where), cat(where, ".", part));
  }
  return tensors;
}

/// One comparison of a case.
struct CaseCheck {
  std::string what;
  double difference = 0, limit = 0;
  bool passed() const { return difference <= limit; }
};

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.numel() == 0) return 0;
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

double largest(const at::Tensor& x) { return x.numel() == 0 ? 0 : x.to(at::kDouble).abs().max().item<double>(); }

/// Codes whose scale is 0 are 0 / 0 in KIVI's code: they are not compared.
at::Tensor defined_codes(const Packed& packed) {
  Packed scales = packed;
  scales.form = CodeForm::kScaledPlusZero;
  scales.zero = at::zeros_like(packed.zero);
  scales.codes = pack_rows(at::ones(packed.shape, at::kByte), packed.bits);
  scales.rounding = HalfRounding::kNone;
  return decode(scales).ne(0);
}

class CaseComparison {
 public:
  CaseComparison(const CodecCase& one, const CodecCaseFile& file, const RoundTrip& trip, const at::Tensor& x)
      : one_(one),
        file_(file),
        trip_(trip),
        x_(x),
        codec_(expected::text(one.json, "quantizer", one.where)),
        hqq_(codec_ == "hqq") {}

  void compare_parts(const NamedTensors& parts, std::int64_t first_tokens) {
    for (const auto& [part, want] : expected_tensors(one_, file_)) {
      if (part == "dequant" || part == "dequant_f16") {
        compare_values(part, want);
        continue;
      }
      const auto mine = std::find_if(parts.begin(), parts.end(), [&](const auto& p) { return p.first == part; });
      if (mine == parts.end()) continue;
      const bool longer = part == "mask" && want.dim() > 0 && want.size(0) >= first_tokens;
      compare_part(part, mine->second, longer ? want.narrow(0, first_tokens, want.size(0) - first_tokens) : want);
    }
  }

  void compare_error(const TensorError& found) {
    if (!expected::has(one_.json, "error") || !expected::has(one_.json["error"], "mse")) return;
    const double want = expected::number(one_.json["error"], "mse", one_.where + ".error");
    add("mse", std::abs(found.mse - want), (hqq_ ? kHqqMseTolerance : kMseTolerance) * want + kMseFloor);
  }

  void compare_counts() {
    if (expected::has(one_.json, "effective_bits")) {
      const double want = expected::number(one_.json, "effective_bits", one_.where);
      add("effective_bits", std::abs(trip_.effective_bits() - want), 1e-9);
    }
    if (expected::has(one_.json, "iterations")) {
      const auto count = static_cast<double>(trip_.report.error_trace.size());
      add("iterations", std::abs(count - expected::number(one_.json, "iterations", one_.where)), 1);
    }
  }

  bool passed() const {
    return std::all_of(checks_.begin(), checks_.end(), [](const CaseCheck& c) { return c.passed(); });
  }

  Json report() const {
    Json all = Json::object();
    for (const CaseCheck& check : checks_) {
      all[check.what] = {{"difference", check.difference}, {"limit", check.limit}, {"passed", check.passed()}};
    }
    return all;
  }

 private:
  void add(const std::string& what, double difference, double limit) { checks_.push_back({what, difference, limit}); }

  void compare_values(const std::string& part, const at::Tensor& want) {
    if (want.sizes() != trip_.decoded.sizes()) return add(cat(part, " (shape)"), 1, 0);
    if (part == "dequant_f16") return add(part, largest_difference(want, trip_.decoded.to(at::kHalf)), 0);
    // A zero that moves moves all values of its group: HQQ's are held to the zeros' tolerance.
    add(part, largest_difference(want, trip_.decoded), (hqq_ ? kHqqZeroTolerance * 2 : kValueTolerance) * largest(x_));
  }

  void compare_part(const std::string& part, const at::Tensor& mine, const at::Tensor& want) {
    if (mine.sizes() != want.sizes()) return add(cat(part, " (shape)"), 1, 0);
    if (part == "codes") {
      at::Tensor difference = (want.to(at::kInt) - mine.to(at::kInt)).abs();
      if (codec_ == "kivi") difference = difference.masked_fill(defined_codes(trip_.packed).logical_not(), 0);
      const double differ = difference.ne(0).sum().item<double>();
      add("codes", differ, hqq_ ? std::ceil(kHqqFlips * static_cast<double>(want.numel())) : 0);
      if (hqq_) add("codes (distance)", difference.max().item<double>(), 1);
    } else if (part == "packed") {
      // The codes again, in words: compared above.
      if (!hqq_ && codec_ != "kivi") add(part, largest_difference(want, mine), 0);
    } else if (part == "mask") {
      add(part, largest_difference(want, mine), 0);
    } else if (part == "upper" || part == "lower" || part == "codebook") {
      add(part, largest_difference(want.to(at::kHalf), mine.to(at::kHalf)), 0);
    } else {
      add(part, largest_difference(want, mine), (part == "zero" ? kHqqZeroTolerance : kValueTolerance) * largest(want));
    }
  }

  const CodecCase& one_;
  const CodecCaseFile& file_;
  const RoundTrip& trip_;
  const at::Tensor& x_;
  std::string codec_;
  bool hqq_;
  std::vector<CaseCheck> checks_;
};

/// A case that the package refuses must be refused here.
CodecCaseResult refused(const CodecCase& one, const std::string& message) {
  const bool wanted = expected::has(one.json, "failed");
  return {{{"id", one.id}, {"passed", wanted}, {"refused", message}}, wanted, {}};
}

/// Throws DataError for keys of a case that are of another kind than they should be.
void expect_form(const Json& one, const std::string& where) {
  const std::string name = expected::text(one, "quantizer", where);
  const std::vector<std::string> known = Registry<Codec>::instance().names();
  if (std::find(known.begin(), known.end(), name) == known.end())
    throw DataError(cat(where, ".quantizer: ", unknown_name(name, known)));
  expected::text(one, "input", where);
  for (const char* key : {"file", "calib", "fisher"}) {
    if (expected::has(one, key)) expected::text(one, key, where);
  }
  for (const char* key : {"tensors", "error"}) {
    if (expected::has(one, key)) expected::object(one, key, where);
  }
}

CodecCase read_case(const Json& json, std::size_t index, const std::string& where) {
  if (!json.is_object()) throw DataError(cat(where, ": expected an object, found ", expected::found(json)));
  return {expected::has(json, "id") ? expected::text(json, "id", where) : cat(index), where, json};
}

/// {"name": …, options…}: those of the case's keys that are options of the codec, and those of its expected tensors.
Json codec_config(const CodecCase& one, const CodecCaseFile& file) {
  const std::string name = expected::text(one.json, "quantizer", one.where);
  Json config = {{"name", name}};
  const auto tensors = expected_tensors(one, file);
  for (const FieldHelp& option : Registry<Codec>::instance().find(name, one.where).options) {
    if (expected::has(one.json, option.name)) {
      config[option.name] = one.json[option.name];
    } else if (const auto found = tensors.find(option.name); found != tensors.end()) {
      config[option.name] = to_json_numbers(found->second);
    }
  }
  return config;
}

std::optional<StreamSample> sample_of(const CodecCase& one, const CodecCaseFile& file) {
  if (!expected::has(one.json, "calib")) return {};
  StreamSample sample{input_of(one, file, "calib"), {}};
  if (expected::has(one.json, "fisher")) sample.fisher = input_of(one, file, "fisher");
  expect_sample(sample, one.where + ".calib");
  return sample;
}

/// The input, which a codec takes as rows of numbers.
at::Tensor matrix_of(const CodecCase& one, const CodecCaseFile& file) {
  const at::Tensor& x = input_of(one, file, "input");
  if (x.is_floating_point() && x.dim() >= 2) return x;
  throw DataError(cat(one.where, ".input: expected floating-point numbers of at least two dimensions, found ",
                      c10::toString(x.scalar_type()), " ", x.sizes()));
}

}  // namespace

CodecCaseFile read_codec_cases(const std::filesystem::path& path, const std::optional<std::filesystem::path>& inputs,
                               const std::string& only) {
  CodecCaseFile file;
  file.path = path;
  Json json = read_json(path);
  if (json.is_object()) json = Json::array({json});
  if (!json.is_array())
    throw DataError(cat(path.string(), ": expected a case or a list of cases, found ", expected::found(json)));
  const std::filesystem::path beside = path.parent_path() / "inputs.safetensors";
  if (inputs || std::filesystem::exists(beside)) file.inputs = read_safetensors(inputs.value_or(beside));
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string where = cat(path.string(), "[", i, "]");
    const CodecCase one = read_case(json[i], i, where);
    if (!only.empty() && one.id != only) continue;
    expect_form(one.json, where);
    if (expected::has(one.json, "file")) {
      const std::string tensors = expected::text(one.json, "file", where);
      if (!file.expected.contains(tensors)) {
        file.expected[tensors] = read_safetensors(path.parent_path() / tensors);
        file.inputs.insert(file.expected[tensors].begin(), file.expected[tensors].end());
      }
    }
    file.cases.push_back(one);
  }
  if (file.cases.empty()) {
    throw DataError(only.empty() ? cat(path.string(), ": holds no cases")
                                 : cat(path.string(), ": no case '", only, "'"));
  }
  return file;
}

CodecCaseResult run_codec_case(const CodecCase& one, const CodecCaseFile& file) {
  const at::Tensor x = matrix_of(one, file);
  const std::optional<StreamSample> sample = sample_of(one, file);
  const Json config = codec_config(one, file);
  std::unique_ptr<Codec> codec;
  RoundTrip trip;
  try {
    codec = make_codec(config, sample ? &*sample : nullptr, x);
    expect_encodable(x, x.to(at::kCPU, at::kFloat).contiguous(), "input");
    trip = round_trip(*codec, x);
  } catch (const ConfigError& error) {
    return refused(one, error.what());
  } catch (const DataError& error) {
    throw DataError(cat(one.where, ": ", error.what()));
  }
  const TensorError error = codec_error(trip, x);
  NamedTensors parts = codec->parts(trip.packed);
  CaseComparison comparison(one, file, trip, x);
  comparison.compare_parts(parts, codec->first_tokens());
  comparison.compare_error(error);
  comparison.compare_counts();
  CodecCaseResult result;
  result.passed = comparison.passed() && !expected::has(one.json, "failed");
  result.report = {{"id", one.id}, {"passed", result.passed}};
  result.report.update(describe(trip, error, codec->bits(), codec->shared_bytes()));
  result.report["checks"] = comparison.report();
  result.tensors = std::move(parts);
  std::erase_if(result.tensors, [](const auto& part) { return part.first == "dequant_f16"; });
  const bool stored_half = expected::text(one.json, "quantizer", one.where) == "kvquant";
  result.tensors.emplace_back(stored_half ? "dequant_f16" : "dequant",
                              stored_half ? trip.decoded.to(at::kHalf) : trip.decoded);
  return result;
}

}  // namespace mla
