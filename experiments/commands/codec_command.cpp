#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/base/suggest.h"
#include "core/model/safetensors.h"
#include "core/quantize/limits.h"
#include "experiments/cache/codec_round_trip.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"

namespace mla {
namespace {

/// The options of codecs as flags; those given go into the codec's config, which refuses what it does not know.
class CodecFlags {
 public:
  void declare(OptionList& options) {
    options.section("codec (what each takes: mlaforge list codec)");
    options.add("name", name, "NAME", "codec: " + join(Registry<Codec>::instance().names()));
    options.add("bits", bits_, "N", "bits of a code");
    options.add("group-size", group_size_, "N", "elements that share a scale and a zero");
    options.add("axis", axis_, "A", "hqq: 0 | 1; quanto: 0 | -1");
    options.add("per", per_, "WHAT", "rtn: token | channel");
    options.add("tensor", tensor_, "K|V", "kivi, kvquant: encode as keys or as values; default: K");
    options.add("dtype", dtype_, "TYPE", "arithmetic and scales: float32 | float16");
    options.add("version", version_, "V", "hqq: 0.2.8 | 0.2.2");
    options.add("optimize", optimize_, "true|false", "hqq: improve the zero points; default: as the version does");
    options.flag("no-optimize", not_optimized_, "hqq: the same as --optimize false");
    options.add("variant", variant_, "V", "kvquant: nuq1 | nuq | nf1 | nf | int1 | int | nuq1cap | nuq1sink");
    options.add("sparsity-threshold", sparsity_threshold_, "S", "kvquant: share of the elements that are no outliers");
    options.add("first-few-fp16", first_few_fp16_, "N", "kvquant: first tokens kept as they are");
    options.add("cap-outliers", cap_outliers_, "N", "kvquant: outliers of a key token on each side at most");
    options.add("set", set_, "KEY=VALUE", "any option of the codec; may be repeated");
  }

  Json config() const {
    Json config = Json::object();
    const auto put = [&](const char* key, const auto& value) {
      if (value) config[key] = *value;
    };
    put("bits", bits_);
    put("group_size", group_size_);
    put("axis", axis_);
    put("per", per_);
    put("tensor", tensor_);
    put("dtype", dtype_);
    put("version", version_);
    put("variant", variant_);
    put("sparsity_threshold", sparsity_threshold_);
    put("first_few_fp16", first_few_fp16_);
    put("cap_outliers", cap_outliers_);
    if (optimize_) config["optimize"] = truth(*optimize_);
    if (not_optimized_) config["optimize"] = false;
    for (const std::string& pair : set_) {
      const std::size_t equals = pair.find('=');
      if (equals == std::string::npos) throw ConfigError(cat("--set: expected KEY=VALUE, found ", pair));
      const std::string value = pair.substr(equals + 1);
      config[pair.substr(0, equals)] = try_parse_json(value).value_or(Json(value));
    }
    return config;
  }

  std::string name;

 private:
  static bool truth(const std::string& text) {
    if (text == "true" || text == "1" || text == "yes") return true;
    if (text == "false" || text == "0" || text == "no") return false;
    throw ConfigError(cat("--optimize: expected true or false, found ", text));
  }

  std::optional<std::int64_t> bits_, group_size_, axis_, first_few_fp16_, cap_outliers_;
  std::optional<double> sparsity_threshold_;
  std::optional<std::string> per_, tensor_, dtype_, version_, optimize_, variant_;
  std::vector<std::string> set_;
  bool not_optimized_ = false;
};

/// Tensors of one file that a codec is calibrated on, or its parameters.
class CalibrationFlags {
 public:
  void declare(OptionList& options) {
    options.section("calibration of kvquant; default: on the input itself, with equal weights");
    options.add("calibration", file_, "FILE", "safetensors with the tensors named below; default: the input file");
    options.add("calib", values_, "TENSOR", "[tokens, channels] to take thresholds and codebook from");
    options.add("fisher", fisher_, "TENSOR", "weights of its elements (squared gradients), same shape");
    options.add("codebook", codebook_, "TENSOR", "the 2^bits values, instead");
    options.add("upper", upper_, "TENSOR", "thresholds of the channels, instead");
    options.add("lower", lower_, "TENSOR", "likewise");
  }

  /// Adds given parameters to the codec's config and returns the sample, if there is one.
  std::optional<StreamSample> read(const std::filesystem::path& input, Json& config) const {
    if (!values_ && !codebook_ && !upper_ && !lower_ && !fisher_) return {};
    const std::filesystem::path path = file_.value_or(input);
    const WeightMap tensors = read_safetensors(path);
    const auto find = [&](const std::string& name) -> const at::Tensor& {
      const auto found = tensors.find(name);
      if (found == tensors.end()) throw DataError(cat(path.string(), ": no tensor '", name, "'"));
      return found->second;
    };
    for (const auto& [key, name] : {std::pair{"codebook", codebook_}, {"upper", upper_}, {"lower", lower_}}) {
      if (name) config[key] = to_json_numbers(find(*name));
    }
    if (!values_) return {};
    StreamSample sample{find(*values_), {}};
    if (fisher_) sample.fisher = find(*fisher_);
    expect_sample(sample, cat(path.string(), ": ", *values_));
    return sample;
  }

 private:
  std::optional<std::filesystem::path> file_;
  std::optional<std::string> values_, fisher_, codebook_, upper_, lower_;
};

class CodecCommand final : public Command {
 public:
  void declare(OptionList& options) override {
    options.add("input", input_, "FILE", "safetensors: [..., tokens, width], or [batch, heads, tokens, width]");
    options.add("output,o", output_, "FILE",
                "safetensors: each tensor after the round trip under its own name, and NAME.codes, NAME.scale, …");
    options.add("only", only_, "TENSOR",
                "only this tensor of the input; may be repeated; default: all that are numbers");
    codec_.declare(options);
    calibration_.declare(options);
    options.renamed("select", "only");
  }

  ExitCode run(Console& console) override {
    if (codec_.name.empty())
      throw ConfigError(cat("--name is missing; known: ", join(Registry<Codec>::instance().names())));
    if (!input_) throw ConfigError("--input is missing: a .safetensors file");
    Json config = {{"name", codec_.name}};
    config.update(codec_.config());
    const auto sample = calibration_.read(*input_, config);
    Registry<Codec>::instance().make(config, "codec");  // names and options, before any data
    Table table({"tensor", "shape", "bits", "effective", "bytes", "MSE", "relative", "largest"});
    Json all = Json::object(), report = {{"codec", config}};
    NamedTensors written;
    std::vector<at::Tensor> before, after;
    std::int64_t bytes = 0, predicted = 0, elements = 0;
    for (const auto& [name, x] : chosen()) {
      const auto codec = make(config, sample, name, x);
      const RoundTrip trip = encode(*codec, name, x);
      const TensorError error = codec_error(trip, x);
      all[name] = describe(trip, error, codec->bits(), codec->shared_bytes());
      table.add({name, shape(x), cat(codec->bits()), rounded(trip.effective_bits(), 5), grouped(trip.bytes),
                 rounded(error.mse, 5), rounded(error.rel_fro, 4), rounded(error.max_abs, 4)});
      before.push_back(x.to(at::kFloat).flatten());
      after.push_back(trip.decoded.flatten());
      bytes += trip.bytes;
      predicted += trip.predicted_bytes;
      elements += trip.elements;
      if (output_) add_written(name, x, trip, *codec, written);
    }
    if (output_) write_safetensors(*output_, written);
    table.print(console.text());
    if (all.size() == 1) {
      report.update(all.begin().value());
    } else {
      report["error"] = write_fields(tensor_error(at::cat(before), at::cat(after)));
      report["effective_bits"] = 8.0 * static_cast<double>(bytes) / static_cast<double>(elements);
      report["bytes"] = bytes;
      report["predicted_bytes"] = predicted;
    }
    report["tensors"] = all;
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  /// The tensors asked for, in the file's order.
  NamedTensors chosen() const {
    const WeightMap tensors = read_safetensors(*input_);
    NamedTensors result;
    for (const std::string& name : only_) {
      const auto found = tensors.find(name);
      std::vector<std::string> known;
      for (const auto& [other, tensor] : tensors) known.push_back(other);
      if (found == tensors.end()) throw DataError(cat(input_->string(), ": ", unknown_name(name, known)));
      result.emplace_back(*found);
    }
    if (only_.empty()) {
      for (const auto& [name, tensor] : tensors) {
        if (tensor.is_floating_point() && tensor.dim() >= 2) result.emplace_back(name, tensor);
      }
    }
    if (result.empty()) throw DataError(cat(input_->string(), ": no floating-point tensor of at least two dimensions"));
    return result;
  }

  static std::string shape(const at::Tensor& x) {
    std::string text;
    for (const std::int64_t size : x.sizes()) text += (text.empty() ? "" : " x ") + std::to_string(size);
    return text;
  }

  std::unique_ptr<Codec> make(const Json& config, const std::optional<StreamSample>& sample, const std::string& name,
                              const at::Tensor& x) const {
    try {
      return make_codec(config, sample ? &*sample : nullptr, x);
    } catch (const ConfigError& error) {
      throw ConfigError(cat(input_->string(), ": ", name, ": ", error.what()));
    } catch (const DataError& error) {
      throw DataError(cat(input_->string(), ": ", name, ": ", error.what()));
    }
  }

  RoundTrip encode(const Codec& codec, const std::string& name, const at::Tensor& x) const {
    try {
      expect_encodable(x, x.to(at::kCPU, at::kFloat).contiguous(), "input");
      return round_trip(codec, x);
    } catch (const ConfigError& error) {
      throw ConfigError(cat(input_->string(), ": ", name, ": ", error.what()));
    } catch (const DataError& error) {
      throw DataError(cat(input_->string(), ": ", name, ": ", error.what()));
    }
  }

  static void add_written(const std::string& name, const at::Tensor& x, const RoundTrip& trip, const Codec& codec,
                          NamedTensors& written) {
    written.emplace_back(name, trip.decoded.to(x.scalar_type()));
    for (const auto& [part, tensor] : codec.parts(trip.packed)) written.emplace_back(name + "." + part, tensor);
    written.emplace_back(name + ".dequant", trip.decoded);
    written.emplace_back(name + ".bits", trip.packed.codes);
  }

  std::optional<std::filesystem::path> input_, output_;
  std::vector<std::string> only_;
  CodecFlags codec_;
  CalibrationFlags calibration_;
};

const CommandRegistration<CodecCommand> kCodec(
    "codec", "encode and decode tensors with a cache codec: error, bytes, effective bits",
    {"mlaforge codec --name hqq --bits 4 --group-size 64 --axis 0 --input x.safetensors --output y.safetensors",
     "mlaforge codec --name rtn --bits 3 --per channel --input x.safetensors --json",
     "mlaforge codec --name kivi --bits 2 --tensor K --group-size 32 --input keys.safetensors",
     "mlaforge codec --name kvquant --bits 3 --variant nuq1 --tensor K --input x.safetensors --only test_k "
     "--calib calib_k --fisher fisher_k"});

}  // namespace
}  // namespace mla
