// The command "conformance" under hostile files of cases and traces.
#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/model/safetensors.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla::fuzz {
namespace {

/// Cases that agree or do not have been read; every refusal is one line with exit code 3.
void run_conformance(const std::vector<std::string>& arguments) {
  const test::ProgramResult result = test::run_program(arguments);
  if (result.exit_code == 0 || result.exit_code == 1) return;
  promise(result.exit_code == 3, cat("exit code ", result.exit_code, ": ", result.err.substr(0, 500)));
  promise(result.err.find('\n') == result.err.size() - 1, "an error of several lines: " + result.err.substr(0, 500));
  throw DataError(result.err);
}

std::vector<std::string> case_seeds() {
  return {R"([{"id": "a", "quantizer": "rtn", "input": "x", "bits": 4, "group_size": 8, "file": "rtn.safetensors",
              "tensors": {"codes": "codes", "dequant": "x"}, "error": {"mse": 0.1}, "effective_bits": 6.0}])",
          R"({"quantizer": "kvquant", "input": "x", "calib": "x", "fisher": "x", "bits": 2, "tensor": "k",
              "variant": "nuq1", "failed": null, "iterations": 3})",
          R"({"quantizer": "hqq", "input": "x", "bits": 3, "axis": 1, "group_size": 8, "iterations": 20})"};
}

void run_cases(std::string_view input) {
  const auto file = input_file("conformance/cases.json", input);
  write_safetensors(file.parent_path() / "inputs.safetensors", {{"x", at::arange(128, at::kFloat).view({8, 16})}});
  write_safetensors(file.parent_path() / "rtn.safetensors",
                    {{"codes", at::zeros({8, 16}, at::kByte)}, {"x", at::ones({8, 16})}});
  run_conformance({"conformance", "--cases", file.string()});
}

const Registration kCases({"command_conformance_cases",
                           run_cases,
                           case_seeds,
                           {"quantizer", "rtn", "hqq", "kivi", "quanto", "kvquant", "bits", "axis", "group_size",
                            "tensors", "codes", "error", "mse", "failed", "calib", "fisher", "version", "variant",
                            "null"},
                           60});

std::vector<std::string> trace_seeds() {
  return {R"({"ids": [1, 2, 3, 4], "prompt": 2, "runs": {"a": {"cache": "DynamicCache", "nll": [1, 2, 3]},
              "b": {"cache": "KIVI bits=2 residual=2 group=2", "nll": [1.5, 2, 3]}, "quanto4_axis-1_R1": {"failed": "yes"},
              "c": {"cache": "QuantizedCache backend=hqq nbits=4 axis_key=axis_value=0 q_group_size=4 residual_length=2",
                    "nll": [0, 0, 0]}}})"};
}

void run_trace(std::string_view input) {
  static const test::TemporaryFolder folder;
  static const std::filesystem::path model = [] {
    test::write_tiny_model(folder / "model");
    return folder / "model";
  }();
  run_conformance(
      {"conformance", "--trace", input_file("conformance/trace.json", input).string(), "--model", model.string()});
}

const Registration kTrace({"command_conformance_trace",
                           run_trace,
                           trace_seeds,
                           {"runs", "cache", "nll", "prompt", "chunks2", "prompt1", "one 3-token call", "optimize=True",
                            "backend=quanto", "nbits=", "q_group_size=", "-1", "failed"},
                           60});

}  // namespace
}  // namespace mla::fuzz
