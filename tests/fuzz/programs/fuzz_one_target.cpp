// libFuzzer's entry: `fuzz_text TARGET [libFuzzer's options] [folders of inputs, or one input to try again]`.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "core/base/file.h"
#include "core/base/log.h"
#include "tests/fuzz/support/mutate.h"
#include "tests/fuzz/support/target.h"

// libFuzzer's own mutations.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t largest);

/// Libraries that own what they do not give back.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5\nleak:libsentencepiece\n"; }

namespace {

const mla::fuzz::Target* chosen = nullptr;

void write_seeds(const std::filesystem::path& folder) {
  int number = 0;
  for (const std::string& seed : chosen->seeds()) {
    mla::write_file_atomically(folder / ("seed" + std::to_string(number++)), seed);
  }
}

}  // namespace

/// Takes the target's name out of the arguments; "list" tells all names, and `TARGET seeds FOLDER` writes its seeds.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const std::string name = *argc > 1 ? (*argv)[1] : "";
  if (name == "list") {
    for (const mla::fuzz::Target& target : mla::fuzz::targets()) std::puts(target.name.c_str());
    std::exit(0);
  }
  try {
    chosen = &mla::fuzz::target_named(name);
    if (*argc == 4 && std::string_view((*argv)[2]) == "seeds") {
      write_seeds((*argv)[3]);
      std::exit(0);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::exit(2);
  }
  std::rotate(*argv + 1, *argv + 2, *argv + *argc);
  --*argc;
  mla::set_log_level(mla::LogLevel::kError);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  mla::fuzz::try_input(*chosen, {reinterpret_cast<const char*>(data), size});
  return 0;
}

/// Every other mutation is one that knows JSON and headers.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t largest,
                                               unsigned seed) {
  if (seed % 2 == 0) return LLVMFuzzerMutate(data, size, largest);
  const std::string input(reinterpret_cast<const char*>(data), size);
  const std::string changed = mla::fuzz::Mutator(seed, chosen->words).mutate(input, input);
  const std::size_t length = std::min(changed.size(), largest);
  std::copy_n(changed.begin(), length, data);
  return length;
}
