// Budgets of cached bytes, and the sizes of methods that fit them.
#include "experiments/automatic/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "experiments/automatic/methods.h"
#include "experiments/automatic/search.h"
#include "experiments/plan/pass_list.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

const AutomaticMethod& method_named(const std::string& name) {
  for (const AutomaticMethod& method : automatic_methods()) {
    if (method.name == name) return method;
  }
  throw std::logic_error(name);
}

TEST(Budget, IsAShareOrBytes) {
  EXPECT_EQ(CacheBudget::parse("20%", "--budget").per_token(1000, "--budget"), 200);
  EXPECT_EQ(CacheBudget::parse("18.75%", "--budget").per_token(512, "--budget"), 96);
  EXPECT_EQ(CacheBudget::parse("100%", "--budget").per_token(7, "--budget"), 7);
  EXPECT_EQ(CacheBudget::parse("33%", "--budget").per_token(10, "--budget"), 3);
  EXPECT_EQ(CacheBudget::parse("96", "--budget").per_token(512, "--budget"), 96);
}

TEST(Budget, AnythingElseIsRefused) {
  for (const char* text : {"", "%", "0%", "-5%", "nan%", "inf%", "20 %", " 20%", "20%%", "0.2", "-3", "0", "1e3",
                           "0x10", "many", "99999999999999999999"}) {
    EXPECT_THAT(test::message_of<ConfigError>([&] { CacheBudget::parse(text, "--budget"); }),
                HasSubstr("expected a share of the source's cache, as 20%, or bytes per token"))
        << text;
  }
  EXPECT_THAT(test::message_of<ConfigError>([] { CacheBudget::parse("100.5%", "--budget"); }),
              HasSubstr("--budget 100.5%: more than the source caches; at most 100%"));
  EXPECT_THAT(test::message_of<ConfigError>([] { CacheBudget::parse("513", "--budget").per_token(512, "--budget"); }),
              HasSubstr("--budget 513: more than the 512 bytes per token"));
}

/// One value more would not fit, and what is planned is what fits.
TEST(FittingSizes, AreTheLargestWithinTheBudget) {
  const ModelSpec spec = test::tiny_spec("gqa");
  const std::int64_t whole = cached_elements(spec), bytes = whole;  // half of the source's 16 bits
  for (const AutomaticMethod& method : automatic_methods()) {
    for (const std::int64_t bits : {16, 8, 4}) {
      const FittingSizes sizes = fitting_sizes(method, spec, bits, bytes);
      if (!sizes.most) continue;
      const auto passes = plan_passes(method.passes(spec, sizes.most->values, Effort::kFull), "compress", spec);
      const ModelSpec& after = planned_spec(passes, spec);
      EXPECT_LE(cached_elements(after), sizes.most->values) << method.name << bits;
      EXPECT_LE(most_cache_bytes(after, bits), bytes) << method.name << bits;
      EXPECT_LE(sizes.least.bytes, sizes.most->bytes) << method.name << bits;
      if (method.name != "mkla dual" || bits == 4) continue;
      EXPECT_GT((sizes.most->values + 1) * bits / 8 + (bits < 16 ? 4 * spec.layer_count() : 0), bytes);
    }
  }
  EXPECT_FALSE(fitting_sizes(method_named("transmla"), spec, 16, 2).most);
}

/// Layers share what is left over.
TEST(FittingSizes, UseEveryByte) {
  const ModelSpec spec = test::tiny_spec("gqa");
  const FittingSizes sizes = fitting_sizes(method_named("mkla dual"), spec, 16, 2 * 21);
  ASSERT_TRUE(sizes.most);
  EXPECT_EQ(sizes.most->values, 21);
  EXPECT_EQ(sizes.least.values, spec.layer_count());
  EXPECT_EQ(sizes.least.bytes, 2 * spec.layer_count());
}

TEST(PlanAutomatic, SaysWhatIsLeftOutAndWhy) {
  const ModelSpec spec = test::tiny_spec("gqa");
  AutomaticOptions options;
  options.bits = {16, 8, 4};
  options.bytes = 2 * spec.layer_count();
  const AutomaticResult plan = plan_automatic(options, spec, "--budget");
  ASSERT_FALSE(plan.candidates.empty());
  EXPECT_EQ(plan.candidates.front().name(), "mkla dual, 16 bits");
  bool transmla = false;
  for (const auto& [name, reason] : plan.skipped) {
    if (name != "transmla, 16 bits") continue;
    transmla = true;
    EXPECT_THAT(reason, HasSubstr("needs at least"));
  }
  EXPECT_TRUE(transmla);
  options.bytes = 1;
  EXPECT_THAT(test::message_of<ConfigError>([&] { plan_automatic(options, spec, "--budget 1"); }),
              HasSubstr(cat("--budget 1: 1 bytes per token are less than any method needs; the least is ",
                            2 * spec.layer_count(), " (mkla dual, 16 bits)")));
}

/// Keys that are normalised are no linear maps of what is cached: their norms are folded first, but where keys stay.
TEST(PlanAutomatic, FoldsNormsOfKeysWhereMethodsNeedIt) {
  const ModelSpec spec = test::tiny_spec("qk_norm");
  AutomaticOptions options;
  options.bits = {16};
  options.bytes = 3 * cached_elements(spec) / 2;
  const AutomaticResult plan = plan_automatic(options, spec, "--budget");
  std::vector<std::string> names;
  for (const AutomaticCandidate& candidate : plan.candidates) {
    names.push_back(candidate.method->name);
    EXPECT_LE(candidate.size.bytes, options.bytes) << candidate.name();
    const Json passes = passes_for_bits(*candidate.method, spec, candidate.size.values, 16, Effort::kFull);
    EXPECT_EQ(passes[0]["name"] == "fold_qk_norm", candidate.method->name != "values alone") << passes;
  }
  EXPECT_THAT(names, testing::IsSupersetOf({"mkla dual", "transmla", "mha2mla", "values alone"}));
}

TEST(PlanAutomatic, PassesOverWhatAMethodRefuses) {
  UniformModel capped = test::tiny_model("gqa");
  capped.heads.soft_cap = 3;  // which no latent computes
  const ModelSpec spec = capped.spec();
  AutomaticOptions options;
  options.bits = {16};
  options.bytes = 2 * cached_elements(spec);
  const AutomaticResult plan = plan_automatic(options, spec, "--budget");
  for (const AutomaticCandidate& candidate : plan.candidates) EXPECT_EQ(candidate.method->name, "kv_heads");
  std::string skipped;
  for (const auto& [name, reason] : plan.skipped) skipped += cat(name, ": ", reason, "\n");
  for (const char* name : {"mkla dual", "transmla"})
    EXPECT_THAT(skipped, testing::ContainsRegex(cat(name, ": .*soft cap")));
  options.bytes = cached_elements(spec) / 4;
  EXPECT_THAT(test::message_of<ConfigError>([&] { plan_automatic(options, spec, "--budget"); }),
              HasSubstr("are less than any method needs; the least is"));
}

}  // namespace
}  // namespace mla
