#include "core/attention/spec.h"

#include <cmath>

#include "core/attention/limits.h"
#include "core/base/error.h"

namespace mla {

double softmax_scale(const ModelFrame& frame, const HeadFields& heads) {
  return frame.rotary().logit_scale() / std::sqrt(static_cast<double>(heads.head_dim));
}

std::int64_t Parameter::count() const {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

std::int64_t AttentionSpec::parameter_count(const ModelFrame& frame) const {
  std::int64_t count = 0;
  for (const Parameter& parameter : parameters(frame)) count += parameter.count();
  return count;
}

bool operator==(const AttentionSpec& a, const AttentionSpec& b) {
  return &a == &b || (a.kind() == b.kind() && a.fields() == b.fields());
}

void add_projection(std::vector<Parameter>& parameters, const std::string& name, std::int64_t rows,
                    std::int64_t columns, bool bias, Tap input, ParameterRole role) {
  parameters.push_back({name + ".weight", {rows, columns}, role, input});
  if (bias) parameters.push_back({name + ".bias", {rows}, ParameterRole::kBias, {}});
}

void check_heads(const HeadFields& heads, const ModelFrame& frame, const std::string& where) {
  const auto at_least_one = [&](const char* name, std::int64_t value) {
    if (value < 1) throw ConfigError(cat(where, ".", name, " = ", value, ": must be at least 1"));
  };
  at_least_one("heads", heads.heads);
  at_least_one("kv_heads", heads.kv_heads);
  at_least_one("head_dim", heads.head_dim);
  if (heads.heads > kMostHeads) throw ConfigError(cat(where, ".heads = ", heads.heads, ": more than ", kMostHeads));
  if (heads.head_dim > kMostHeadDim || heads.heads * heads.head_dim > kMostHeadRows)
    throw ConfigError(cat(where, ".head_dim = ", heads.head_dim, ": more than ", kMostHeadDim, ", or times ",
                          heads.heads, " heads more than ", kMostHeadRows));
  if (heads.heads % heads.kv_heads != 0)
    throw ConfigError(cat(where, ".kv_heads = ", heads.kv_heads, ": must divide heads = ", heads.heads));
  if (heads.window < 0) throw ConfigError(cat(where, ".window = ", heads.window, ": must not be negative"));
  if (frame.rope_dim % 2 != 0) throw ConfigError(cat(where, ": an odd width has no rotation pairs"));
}

}  // namespace mla
