#include "experiments/commands/run_provenance.h"

#include <ATen/Context.h>
#include <ATen/Version.h>

#include <string>
#include <vector>

#include "core/ops/bfloat16_kernels.h"
#include "core/ops/vector_math.h"
#include "core/store/hdf5_file.h"

namespace mla {
namespace {

/// The value of "NAME=value" in the list of settings that LibTorch was built with; "" where it is not there.
std::string build_setting(const std::string& name) {
  const std::string all = at::show_config(), start = name + "=";
  const std::size_t begin = all.find(start);
  if (begin == std::string::npos) return "";
  const std::size_t value = begin + start.size();
  return all.substr(value, all.find_first_of(", \n", value) - value);
}

/// The first line without what stands before the number: "Intel(R) … Version 2024.2-Product Build …".
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// The instruction sets that kernels of this program run in (core/ops/vector_math.h).
std::string kernels_instruction_set() {
  if (!kernels_are_on()) return "none: MLA_KERNELS=off";
#if MLA_GCC_ON_X86
#if defined(__SANITIZE_ADDRESS__)
  const std::string clones = "the compiler's default";
#else
  const std::string clones = __builtin_cpu_supports("x86-64-v4")   ? "x86-64-v4"
                             : __builtin_cpu_supports("x86-64-v3") ? "x86-64-v3"
                                                                   : "x86-64";
#endif
  return clones + (has_avx512() ? ", AVX-512 by hand" : "") + (has_bfloat16_tiles() ? ", AMX" : "");
#else
  return "the compiler's default";
#endif
}

Json library_versions() {
  Json versions = {{"libtorch", build_setting("TORCH_VERSION")},
                   {"hdf5", hdf5_version()},
                   {"mkl", at::hasMKL() ? first_line(at::get_mkl_version()) : ""},
                   {"onednn", at::hasMKLDNN() ? first_line(at::get_mkldnn_version()) : ""},
                   {"openmp", first_line(at::get_openmp_version())},
                   {"libtorch_instruction_set", at::get_cpu_capability()},
                   {"kernels_instruction_set", kernels_instruction_set()}};
  for (auto& [name, version] : versions.items()) {
    if (version == "") version = "none";
  }
  return versions;
}

}  // namespace

Provenance provenance_of(const Console& console) {
  std::vector<const char*> arguments;
  for (const std::string& argument : console.command_line()) arguments.push_back(argument.c_str());
  Provenance provenance = collect_provenance(static_cast<int>(arguments.size()), arguments.data());
  provenance.libraries = library_versions();
  return provenance;
}

}  // namespace mla
