#include "experiments/conformance/codec_cases.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/registry.h"

namespace mla {
namespace {

constexpr double kValueTolerance = 1e-6;  // of max |x|
constexpr double kHqqZeroTolerance = 5e-3;
constexpr double kHqqFlips = 1e-4;
constexpr double kMseTolerance = 5e-3;
constexpr double kHqqMseTolerance = 1e-2;
constexpr double kMseFloor = 1e-14;

std::string text_of(const Json& json, const char* key, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) throw DataError(cat(where, ": expected a string '", key, "'"));
  return found->get<std::string>();
}

const at::Tensor& tensor_of(const WeightMap& tensors, const std::string& name, const std::string& where) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw DataError(cat(where, ": no tensor '", name, "' in the files beside it"));
  return found->second;
}

/// The tensors a case names, by part: from the case's own file.
const WeightMap* expected_tensors(const CodecCase& one, const CodecCaseFile& file) {
  const auto name = one.json.find("file");
  if (name == one.json.end() || !name->is_string()) return nullptr;
  return &file.expected.at(name->get<std::string>());
}

Json expected_names(const CodecCase& one) {
  const auto tensors = one.json.find("tensors");
  return tensors != one.json.end() && tensors->is_object() ? *tensors : Json::object();
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
      : one_(one), file_(file), trip_(trip), x_(x), hqq_(one.json["quantizer"] == "hqq") {}

  void compare_parts(const NamedTensors& parts, std::int64_t first_tokens) {
    const Json names = expected_names(one_);
    const WeightMap* tensors = expected_tensors(one_, file_);
    if (!tensors) return;
    for (const auto& [part, name] : names.items()) {
      const at::Tensor& want = tensor_of(*tensors, name.get<std::string>(), one_.id);
      if (part == "dequant" || part == "dequant_f16") {
        compare_values(part, want);
        continue;
      }
      const auto mine = std::find_if(parts.begin(), parts.end(), [&](const auto& p) { return p.first == part; });
      if (mine == parts.end()) continue;
      compare_part(part, mine->second,
                   part == "mask" ? want.narrow(0, first_tokens, want.size(0) - first_tokens) : want);
    }
  }

  void compare_error(const TensorError& found) {
    const auto error = one_.json.find("error");
    if (error == one_.json.end() || !error->is_object() || !(*error)["mse"].is_number()) return;
    const double want = (*error)["mse"].get<double>();
    add("mse", std::abs(found.mse - want), (hqq_ ? kHqqMseTolerance : kMseTolerance) * want + kMseFloor);
  }

  void compare_counts() {
    const Json& json = one_.json;
    if (json.contains("effective_bits") && json["effective_bits"].is_number()) {
      add("effective_bits", std::abs(trip_.effective_bits() - json["effective_bits"].get<double>()), 1e-9);
    }
    if (json.contains("iterations") && json["iterations"].is_number()) {
      const auto count = static_cast<double>(trip_.report.error_trace.size());
      add("iterations", std::abs(count - json["iterations"].get<double>()), 1);
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
    if (part == "dequant_f16") return add(part, largest_difference(want, trip_.decoded.to(at::kHalf)), 0);
    // A zero that moves moves all values of its group: HQQ's are held to the zeros' tolerance.
    add(part, largest_difference(want, trip_.decoded), (hqq_ ? kHqqZeroTolerance * 2 : kValueTolerance) * largest(x_));
  }

  void compare_part(const std::string& part, const at::Tensor& mine, const at::Tensor& want) {
    if (mine.sizes() != want.sizes()) return add(cat(part, " (shape)"), 1, 0);
    if (part == "codes") {
      at::Tensor difference = (want.to(at::kInt) - mine.to(at::kInt)).abs();
      if (one_.json["quantizer"] == "kivi")
        difference = difference.masked_fill(defined_codes(trip_.packed).logical_not(), 0);
      const double differ = difference.ne(0).sum().item<double>();
      add("codes", differ, hqq_ ? std::ceil(kHqqFlips * static_cast<double>(want.numel())) : 0);
      if (hqq_) add("codes (distance)", difference.max().item<double>(), 1);
    } else if (part == "packed") {
      // The codes again, in words: compared above.
      if (!hqq_ && one_.json["quantizer"] != "kivi") add(part, largest_difference(want, mine), 0);
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
  bool hqq_;
  std::vector<CaseCheck> checks_;
};

/// A case that the package refuses must be refused here.
CodecCaseResult refused(const CodecCase& one, const std::string& message) {
  const bool expected = one.json.contains("failed") && !one.json["failed"].is_null();
  return {{{"id", one.id}, {"passed", expected}, {"refused", message}}, expected, {}};
}

}  // namespace

Json to_json_numbers(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kDouble).contiguous();
  const double* data = values.const_data_ptr<double>();
  return std::vector<double>(data, data + values.numel());
}

CodecCaseFile read_codec_cases(const std::filesystem::path& path, const std::optional<std::filesystem::path>& inputs,
                               const std::string& only) {
  CodecCaseFile file;
  file.path = path;
  Json json = read_json(path);
  if (json.is_object()) json = Json::array({json});
  if (!json.is_array())
    throw DataError(cat(path.string(), ": expected a case or a list of cases, found ", kind_of(json)));
  const std::filesystem::path beside = path.parent_path() / "inputs.safetensors";
  if (inputs || std::filesystem::exists(beside)) file.inputs = read_safetensors(inputs.value_or(beside));
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string where = cat(path.string(), "[", i, "]");
    if (!json[i].is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(json[i])));
    const std::string id = json[i].contains("id") ? text_of(json[i], "id", where) : cat(i);
    if (!only.empty() && id != only) continue;
    text_of(json[i], "quantizer", where);
    text_of(json[i], "input", where);
    if (const auto name = json[i].find("file"); name != json[i].end() && name->is_string()) {
      const std::string tensors = name->get<std::string>();
      if (!file.expected.contains(tensors)) {
        file.expected[tensors] = read_safetensors(path.parent_path() / tensors);
        file.inputs.insert(file.expected[tensors].begin(), file.expected[tensors].end());
      }
    }
    file.cases.push_back({id, json[i]});
  }
  if (file.cases.empty()) {
    throw DataError(only.empty() ? cat(path.string(), ": holds no cases")
                                 : cat(path.string(), ": no case '", only, "'"));
  }
  return file;
}

Json codec_config(const CodecCase& one, const CodecCaseFile& file) {
  Json config = {{"name", one.json["quantizer"]}};
  const auto& entry = Registry<Codec>::instance().find(one.json["quantizer"].get<std::string>(), one.id + ".quantizer");
  const Json names = expected_names(one);
  const WeightMap* tensors = expected_tensors(one, file);
  for (const FieldHelp& option : entry.options) {
    if (one.json.contains(option.name) && !one.json[option.name].is_null()) {
      config[option.name] = one.json[option.name];
    } else if (names.contains(option.name) && tensors) {
      config[option.name] = to_json_numbers(tensor_of(*tensors, names[option.name].get<std::string>(), one.id));
    }
  }
  return config;
}

std::unique_ptr<Codec> make_codec(const Json& config, const StreamSample* sample, const at::Tensor& x) {
  const auto codec = Registry<Codec>::instance().make(config, "codec");
  StreamSample itself;
  if (!sample) {
    const at::Tensor rows = codec->joins_heads() && x.dim() > 2 ? x.transpose(-3, -2).flatten(-2) : x;
    itself.values = rows.to(at::kFloat).reshape({-1, rows.size(-1)});
    sample = &itself;
  }
  return codec->for_stream("tensor", sample);
}

TensorError codec_error(const RoundTrip& trip, const at::Tensor& x) {
  const bool half = trip.packed.rounding != HalfRounding::kNone;
  return tensor_error(half ? x.to(at::kHalf).to(at::kFloat) : x, trip.decoded);
}

Json describe(const RoundTrip& trip, const TensorError& error, int bits, std::int64_t shared_bytes) {
  Json report = {{"shape", trip.decoded.sizes().vec()},
                 {"nominal_bits", bits},
                 {"effective_bits", trip.effective_bits()},
                 {"bytes", trip.bytes},
                 {"predicted_bytes", trip.predicted_bytes},
                 {"shared_bytes", shared_bytes},
                 {"error", write_fields(error)}};
  if (trip.packed.sparse.end.defined()) {
    const std::int64_t apart = trip.packed.sparse.entries() + (trip.first.defined() ? trip.first.numel() : 0);
    report["outlier_fraction"] = static_cast<double>(apart) / static_cast<double>(trip.elements);
  }
  if (!trip.report.error_trace.empty()) {
    report["iterations"] = trip.report.error_trace.size();
    report["error_trace"] = trip.report.error_trace;
  }
  return report;
}

CodecCaseResult run_codec_case(const CodecCase& one, const CodecCaseFile& file) {
  const std::string where = cat(file.path.string(), ": ", one.id);
  const at::Tensor& x = tensor_of(file.inputs, one.json["input"].get<std::string>(), where);
  std::optional<StreamSample> sample;
  if (one.json.contains("calib")) {
    sample.emplace();
    sample->values = tensor_of(file.inputs, text_of(one.json, "calib", where), where);
    if (one.json.contains("fisher")) sample->fisher = tensor_of(file.inputs, text_of(one.json, "fisher", where), where);
  }
  std::unique_ptr<Codec> codec;
  RoundTrip trip;
  try {
    codec = make_codec(codec_config(one, file), sample ? &*sample : nullptr, x);
    trip = round_trip(*codec, x);
  } catch (const ConfigError& error) {
    return refused(one, error.what());
  }
  const TensorError error = codec_error(trip, x);
  NamedTensors parts = codec->parts(trip.packed);
  CaseComparison comparison(one, file, trip, x);
  comparison.compare_parts(parts, codec->first_tokens());
  comparison.compare_error(error);
  comparison.compare_counts();
  CodecCaseResult result;
  result.passed = comparison.passed() && !(one.json.contains("failed") && !one.json["failed"].is_null());
  result.report = {{"id", one.id}, {"passed", result.passed}};
  result.report.update(describe(trip, error, codec->bits(), codec->shared_bytes()));
  result.report["checks"] = comparison.report();
  result.tensors = std::move(parts);
  std::erase_if(result.tensors, [](const auto& part) { return part.first == "dequant_f16"; });
  const bool stored_half = one.json["quantizer"] == "kvquant";
  result.tensors.emplace_back(stored_half ? "dequant_f16" : "dequant",
                              stored_half ? trip.decoded.to(at::kHalf) : trip.decoded);
  return result;
}

}  // namespace mla
