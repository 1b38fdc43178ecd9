// Codec cases in files: what to encode, how, and what public packages made of it.
#pragma once

#include <filesystem>
#include <map>
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
  std::string where;  ///< "FILE[index]", for errors
  Json json;
};

struct CodecCaseFile {
  std::filesystem::path path;
  std::vector<CodecCase> cases;
  WeightMap inputs;                           ///< of the inputs file and of the cases' own files
  std::map<std::string, WeightMap> expected;  ///< by file name
};

/// Reads a list of cases, or a single one, and the tensor files beside it. `inputs` empty: inputs.safetensors beside
/// the file. `only` not empty: the case of that id alone. Throws DataError naming file, case and key for what has
/// another form than those above.
CodecCaseFile read_codec_cases(const std::filesystem::path& path, const std::optional<std::filesystem::path>& inputs,
                               const std::string& only);

struct CodecCaseResult {
  Json report;  ///< id, error, bits, comparisons, "passed"
  bool passed = false;
  NamedTensors tensors;  ///< the parts and "dequant", for writing
};

/// Encodes the case's input and holds the result against what the case expects, with the tolerances of the published
/// comparisons: codes equal (HQQ: all but 0.01 % and those off by one), values within 1e-6 of max |x|, HQQ's zeros
/// within 5e-3, its iterations off by one at most, mean squared errors within 0.5 % (HQQ: 1 %).
CodecCaseResult run_codec_case(const CodecCase& one, const CodecCaseFile& file);

}  // namespace mla
