// How long threads of OpenMP spin before they sleep, set before OpenMP is loaded.
//
// libgomp's threads spin for milliseconds at the end of each parallel loop. Where another program takes one of the
// cores, the thread that is waited for does not run while others spin in its place: decoding takes ten times as long.
// libgomp reads its environment when it is loaded, so that main() comes too late, and reading it again is not possible;
// starting the program anew would load LibTorch twice. This file is a shared library of its own: programs name it after
// libgomp, and of libraries that do not need each other the loader makes ready the later one first.
#include <cstdlib>

namespace {

/// Rounds of spinning: a few microseconds, as long as a gap between two loops of a layer. Measured with
/// tests/benchmarks/busy_machine.sh.
constexpr const char* kRounds = "1000";

[[gnu::constructor]] void bound_spinning() {
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) setenv("GOMP_SPINCOUNT", kRounds, /*overwrite=*/0);
}

}  // namespace
