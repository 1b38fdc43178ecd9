#include "tests/serve/served_models.h"

#include <ATen/ATen.h>

#include "core/serve/compare_models.h"

namespace mla::test {

Checkpoint served_model(const std::string& kind, const Json& pass) {
  const PassedModel tiny(tiny_spec(kind));
  Checkpoint model = tiny_checkpoint(kind);
  model.decoder = tiny.after(pass);
  model.decoder.move_to({.storage = at::kFloat, .compute = at::kFloat});
  return model;
}

Json per_head_keys(const Json& rope) {
  return {{"name", "mha2mla"}, {"rope", rope}, {"low_rank", {{"name", "joint_svd"}, {"d_kv", 6}}}};
}

Json shared_key() { return {{"name", "transmla"}, {"cached", 16}, {"collapse", 2}, {"fold", 2}}; }

Decoder exported(const Checkpoint& model, const TemporaryFolder& folder, const ExportRequest& request,
                 ExportReport* report) {
  const ExportReport own = export_model(model, "deepseek_v3", request, folder / "out");
  if (report) *report = own;
  return load_checkpoint(folder / "out", {.placement = {.storage = std::nullopt}}).decoder;
}

double logit_difference(const Decoder& a, const Decoder& b) {
  return compare_models(a, b, random_ids(b.spec(), 2, 20)).largest;
}

EngineVerdict verdict_of(const ExportReport& report, const std::string& engine) {
  for (const EngineVerdict& verdict : report.engines) {
    if (verdict.engine == engine) return verdict;
  }
  return {};
}

}  // namespace mla::test
