#pragma once

namespace mla::test {

/// Whether a sanitizer watches this build: it multiplies time and memory, so that tests of either are skipped.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

}  // namespace mla::test
