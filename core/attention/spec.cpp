#include "core/attention/spec.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/attention/limits.h"
#include "core/base/error.h"
#include "core/ops/rms_norm.h"

namespace mla {

Rotary ModelFrame::rotary(RopeUse use) const {
  if (use == RopeUse::kNone) return Rotary::still(rope_dim);
  if (use == RopeUse::kLocal) return Rotary(local_rope_theta, rope_dim, max_positions, {});
  return Rotary(rope_theta, rope_dim, max_positions, rope_scaling);
}

double softmax_scale(const ModelFrame& frame, const HeadFields& heads) {
  const double scalar = heads.query_scalar > 0 ? heads.query_scalar : static_cast<double>(heads.head_dim);
  return frame.rotary(heads.rope).logit_scale() / std::sqrt(scalar);
}

at::Tensor normalised(const at::Tensor& x, const at::Tensor& weight, const ModelFrame& frame) {
  if (!frame.norms_add_one) return rms_norm(x, matching(weight, x), frame.norm_epsilon);
  // 1 + w keeps no digits of a small w in a narrow type.
  const bool narrow = x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16;
  const at::Tensor wide = narrow ? x.to(at::kFloat) : x;
  return rms_norm(wide, matching(weight, wide) + 1, frame.norm_epsilon).to(x.scalar_type());
}

std::string only_grouped_query(const HeadFields& heads) {
  if (heads.soft_cap > 0) {
    return cat("the logits of attention are capped (soft cap ", heads.soft_cap,
               "), which no layer with a latent computes; share_attention, merge_layers, quantize_weights and a "
               "quantized cache serve it");
  }
  if (heads.qk_norm_whole) {
    return "queries and keys are normalised over all heads together (QK-norm), so that heads cannot be taken apart; "
           "list fold_qk_norm before; share_attention, merge_layers, quantize_weights and a quantized cache serve it "
           "as it is";
  }
  return "";
}

RopeUse rope_use(const AttentionSpec& attention) {
  const std::optional<HeadFields> heads = attention.heads();
  return heads ? heads->rope : RopeUse::kModel;
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
  if (heads.rope == RopeUse::kLocal && !(frame.local_rope_theta > 0))
    throw ConfigError(cat(where, ".rope = local: the model has one base of rotation; expected model or none"));
  if (heads.qk_norm_whole && !heads.qk_norm) throw ConfigError(cat(where, ".qk_norm_whole: only where qk_norm is"));
  for (const auto& [name, value] : {std::pair{"query_scalar", heads.query_scalar}, {"soft_cap", heads.soft_cap}}) {
    if (!std::isfinite(value) || value < 0)
      throw ConfigError(cat(where, ".", name, " = ", value, ": must be a number of at least 0"));
  }
}

void check_latent_heads(const HeadFields& heads, const ModelFrame& frame, const std::string& where) {
  check_heads(heads, frame, where);
  if (const std::string reason = only_grouped_query(heads); !reason.empty())
    throw ConfigError(cat(where, ": ", reason));
}

}  // namespace mla
