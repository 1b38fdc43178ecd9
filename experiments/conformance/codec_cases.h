// Codec cases in files: what to encode, how, and what public packages made of it.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/model/safetensors.h"
#include "core/quantize/round_trip.h"

namespace mla {

/// One case of a file: a codec's name under "quantizer", its options under their names, "input" (a tensor's name), and
/// what is expected: "tensors" (parts by name -> names in `file`), "error", "effective_bits", "iterations", "failed".
struct CodecCase {
  std::string id;
  Json json;
};

struct CodecCaseFile {
  std::filesystem::path path;
  std::vector<CodecCase> cases;
  WeightMap inputs;                           ///< of the inputs file and of the cases' own files
  std::map<std::string, WeightMap> expected;  ///< by file name
};

/// Reads a list of cases, or a single one, and the tensor files beside it. `inputs` empty: inputs.safetensors beside
/// the file. `only` not empty: the case of that id alone. Throws DataError naming file and case.
CodecCaseFile read_codec_cases(const std::filesystem::path& path, const std::optional<std::filesystem::path>& inputs,
                               const std::string& only);

/// {"name": …, options…} of a case: those of its keys that are options of the codec. Throws ConfigError for an unknown
/// codec.
Json codec_config(const CodecCase& one, const CodecCaseFile& file);

struct CodecCaseResult {
  Json report;  ///< id, error, bits, comparisons, "passed"
  bool passed = false;
  NamedTensors tensors;  ///< the parts and "dequant", for writing
};

/// Encodes the case's input and holds the result against what the case expects, with the tolerances of the published
/// comparisons: codes equal (HQQ: all but 0.01 % and those off by one), values within 1e-6 of max |x|, HQQ's zeros
/// within 5e-3, its iterations off by one at most, mean squared errors within 0.5 % (HQQ: 1 %).
CodecCaseResult run_codec_case(const CodecCase& one, const CodecCaseFile& file);

/// The codec of a config, calibrated where it needs that: on `sample`, or on x itself.
std::unique_ptr<Codec> make_codec(const Json& config, const StreamSample* sample, const at::Tensor& x);

/// A vector's elements as JSON, for options.
Json to_json_numbers(const at::Tensor& tensor);

/// The error of a round trip of x; codecs that work in float16 are held against x as they see it, rounded to float16.
TensorError codec_error(const RoundTrip& trip, const at::Tensor& x);

/// Error, sizes and iterations of a round trip.
Json describe(const RoundTrip& trip, const TensorError& error, int bits, std::int64_t shared_bytes);

}  // namespace mla
