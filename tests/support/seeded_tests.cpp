// Every test starts from random numbers of its own name: the same alone, in any order and in any shard.
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace mla {
namespace {

/// FNV-1a, which no library may change.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

/// MLA_TEST_SEED (environment) gives other numbers: bounds that hold by luck alone are found by trying a few.
class SeedEachTest : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& test) override {
    const char* more = std::getenv("MLA_TEST_SEED");
    at::manual_seed(hash_of(std::string(test.test_suite_name()) + "." + test.name() + (more ? more : "")));
  }
};

// gtest_main has no place for it; listeners may be added before main().
[[maybe_unused]] const bool kAdded = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new SeedEachTest);
  return true;
}();

}  // namespace
}  // namespace mla
