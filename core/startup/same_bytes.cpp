// Products of MKL give the same bytes with any number of threads, set before LibTorch calls MKL for the first time.
//
// By itself MKL shares small products among threads by their inner dimension, too, and each number of threads sums in
// an order of its own: a sweep's workers, which have one thread each, would train other models than one program with
// all of them. It is as fast so, as far as tests/training_benchmark shows.
#include <cstdlib>

namespace {

[[gnu::constructor]] void sum_in_one_order() { setenv("MKL_CBWR", "AUTO,STRICT", /*overwrite=*/0); }

}  // namespace
