#include "core/base/provenance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/fields.h"
#include "core/base/numerics_version.h"

namespace mla {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

TEST(Provenance, SaysWhatIsKnown) {
  const char* const arguments[] = {"mlaforge", "run", "a config.json", "--set", "a[0]=it's", ""};
  const Provenance provenance = collect_provenance(6, arguments);
  EXPECT_EQ(provenance.command_line, R"(mlaforge run 'a config.json' --set 'a[0]=it'\''s' '')");
  EXPECT_THAT(provenance.git_hash, MatchesRegex("unknown|[0-9a-f]{40,64}"));
  EXPECT_THAT(provenance.compiler, MatchesRegex("(gcc|clang) [0-9]+\\..*"));
  EXPECT_THAT(provenance.created, MatchesRegex("20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"));
  EXPECT_GT(provenance.threads, 0);
  EXPECT_EQ(provenance.numerics_version, kNumericsVersion);
  EXPECT_EQ(Provenance{}.numerics_version, 1) << "of records that do not say it";
  EXPECT_EQ(Provenance{}.device, "cpu") << "likewise";
  EXPECT_FALSE(provenance.host.empty());
  EXPECT_FALSE(provenance.cpu.empty());
}

TEST(Provenance, WhatIsBakedInNamesNoFolderOfTheMachine) {
  const std::string text = write_fields(collect_provenance(0, nullptr)).dump();
  EXPECT_THAT(text, Not(HasSubstr(MLA_SOURCE_DIR)));
  EXPECT_THAT(text, Not(HasSubstr(MLA_BINARY_DIR)));
}

TEST(Provenance, SurvivesJson) {
  Provenance provenance = collect_provenance(0, nullptr);
  provenance.seed = 0xffffffffffffffff;
  provenance.libraries = {{"libtorch", "2.11.0"}};
  Provenance back;
  read_fields(write_fields(provenance), "", back);
  EXPECT_EQ(back, provenance);
}

}  // namespace
}  // namespace mla
