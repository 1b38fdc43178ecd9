// Where the folder of real weights, corpora and golden numbers lies.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace mla::test {

/// The folder that MLA_SHARED names, by default ../shared from the project's root.
inline std::filesystem::path shared_folder() {
  if (const char* named = std::getenv("MLA_SHARED")) return named;
  return std::filesystem::path(MLA_SOURCE_DIR).parent_path() / "shared";
}

}  // namespace mla::test

/// Skips the running test, with a reason, when the shared folder lacks `path` (relative to it).
#define MLA_NEEDS_SHARED(path)                                                                            \
  if (!std::filesystem::exists(mla::test::shared_folder() / (path))) {                                    \
    GTEST_SKIP() << (path) << " is not under " << mla::test::shared_folder() << "; set MLA_SHARED to it"; \
  }
