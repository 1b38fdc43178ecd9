#include "experiments/automatic/methods.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "experiments/automatic/budget.h"
#include "experiments/plan/pass_list.h"

namespace mla {
namespace {

/// Bytes of the scale and the minimum of a row of codes.
constexpr std::int64_t kRowOverhead = 4;
/// Rows, the first ones, on which errors of layers and attention weights are measured.
constexpr std::int64_t kQuickRows = 4, kErrorRows = 4, kAttentionRows = 32;
/// Of cached values, about, one in so many is a rotated slot's pair in quick conversions.
constexpr std::int64_t kValuesOfPair = 6;

/// Of a layer without heads any will do: passes refuse it.
HeadFields first_heads(const ModelSpec& spec) {
  HeadFields none;
  none.heads = none.kv_heads = 1;
  none.head_dim = 2;
  return spec.attention(0).heads().value_or(none);
}

/// `values` by layer, those left over to the first ones.
std::vector<std::int64_t> by_layer(const ModelSpec& spec, std::int64_t values) {
  const std::int64_t layers = spec.layer_count(), all = values / layers;
  std::vector<std::int64_t> widths(static_cast<std::size_t>(layers), all);
  std::for_each_n(widths.begin(), values - all * layers, [](std::int64_t& width) { ++width; });
  return widths;
}

Json mean_key(const ModelSpec& spec, std::int64_t values, Effort effort, const std::string& layout) {
  const std::vector<std::int64_t> widths = by_layer(spec, values);
  Json pass = {{"name", "mkla"}, {"cached", widths}, {"layout", layout}};
  if (effort != Effort::kQuick) {
    if (effort == Effort::kFull) pass["budgets"] = "measured";
    pass["error_rows"] = kErrorRows;
    pass["attention_rows"] = kAttentionRows;
    pass["scores"] = Json::object();
    return Json::array({pass});
  }
  const HeadFields heads = first_heads(spec);
  const std::int64_t latent = std::min(2 * heads.kv_heads * heads.head_dim, spec.hidden);
  std::vector<std::int64_t> pairs;
  for (const std::int64_t width : widths) {
    const std::int64_t least = (std::max<std::int64_t>(0, width - latent) + 1) / 2;
    const std::int64_t most = (width - (layout == "dual" ? 0 : 1)) / 2;
    pairs.push_back(std::max(least, std::min(width / kValuesOfPair, most)));
  }
  pass["pairs"] = pairs;
  pass["error_rows"] = 1;
  pass["attention_rows"] = kQuickRows;
  return Json::array({pass});
}

/// `pass` with the mean number of values, its output projections refitted.
Json refitted(Json pass) { return Json::array({std::move(pass), {{"name", "refit_output"}}}); }

Json shared_key(const ModelSpec& spec, std::int64_t values, const std::string& name) {
  return refitted({{"name", name}, {"cached", values / spec.layer_count()}});
}

/// A quarter of a KV head's values are its rotated pairs.
Json partial_rope(const ModelSpec& spec, std::int64_t values) {
  const std::int64_t of_head = values / spec.layer_count() / first_heads(spec).kv_heads;
  const std::int64_t pairs = std::max<std::int64_t>(1, of_head / 8);
  return refitted({{"name", "mha2mla"},
                   {"rope", {{"name", "two_norm"}, {"pairs", pairs}}},
                   {"low_rank", {{"name", "joint_svd"}, {"d_kv", of_head - 2 * pairs}}}});
}

/// Keys as they are: for models whose keys no latent can rebuild.
Json values_alone(const ModelSpec& spec, std::int64_t values) {
  const HeadFields heads = first_heads(spec);
  const std::int64_t latent = values / spec.layer_count() / heads.kv_heads - heads.head_dim;
  return refitted(
      {{"name", "mha2mla"}, {"rope", {{"name", "all"}}}, {"low_rank", {{"name", "value_svd"}, {"d_kv", latent}}}});
}

Json fewer_heads(const ModelSpec& spec, std::int64_t values) {
  const HeadFields heads = first_heads(spec);
  std::int64_t kept = std::min(heads.kv_heads, values / spec.layer_count() / (2 * heads.head_dim));
  while (kept > 1 && heads.kv_heads % kept != 0) --kept;
  return refitted({{"name", "kv_heads"}, {"kv_heads", kept}});
}

/// Latents and rotations over heads need keys that are linear in the hidden state.
Json with_linear_keys(const ModelSpec& spec, Json passes) {
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    const std::optional<HeadFields> heads = spec.attention(layer).heads();
    if (!heads || !heads->qk_norm) continue;
    passes.insert(passes.begin(), Json({{"name", "fold_qk_norm"}}));
    break;
  }
  return passes;
}

std::vector<PlannedPass> planned(const AutomaticMethod& method, const ModelSpec& spec, std::int64_t values) {
  return plan_passes(method.passes(spec, values, Effort::kQuick), method.name, spec);
}

/// What the method makes of so many values, which may be fewer; nothing where it has no such size: `why` says it then.
std::optional<CacheSize> size_at(const AutomaticMethod& method, const ModelSpec& spec, std::int64_t bits,
                                 std::int64_t values, std::string& why) {
  try {
    const std::vector<PlannedPass> passes = planned(method, spec, values);
    const ModelSpec& after = planned_spec(passes, spec);
    if (cached_elements(after) > values) return std::nullopt;
    return CacheSize{cached_elements(after), most_cache_bytes(after, bits)};
  } catch (const ConfigError& error) {
    why = error.what();
    return std::nullopt;
  }
}

}  // namespace

const std::vector<AutomaticMethod>& automatic_methods() {
  static const std::vector<AutomaticMethod> all = [] {
    std::vector<AutomaticMethod> methods;
    using Passes = std::function<Json(const ModelSpec&, std::int64_t, Effort)>;
    const auto add = [&](const std::string& name, const Passes& passes) {
      methods.push_back({name, [=](const ModelSpec& spec, std::int64_t values, Effort effort) {
                           return with_linear_keys(spec, passes(spec, values, effort));
                         }});
    };
    for (const char* layout : {"dual", "std", "plain"}) {
      add(cat("mkla ", layout), [=](const ModelSpec& spec, std::int64_t values, Effort effort) {
        return mean_key(spec, values, effort, layout);
      });
    }
    for (const char* name : {"transmla", "care"}) {
      add(name, [=](const ModelSpec& spec, std::int64_t values, Effort) { return shared_key(spec, values, name); });
    }
    add("mha2mla", [](const ModelSpec& spec, std::int64_t values, Effort) { return partial_rope(spec, values); });
    methods.push_back({"values alone",
                       [](const ModelSpec& spec, std::int64_t values, Effort) { return values_alone(spec, values); }});
    add("kv_heads", [](const ModelSpec& spec, std::int64_t values, Effort) { return fewer_heads(spec, values); });
    return methods;
  }();
  return all;
}

const std::vector<std::pair<std::string, std::string>>& methods_left_out() {
  static const std::vector<std::pair<std::string, std::string>> all = {
      {"svd_llm, asvd, palu, care_full_rope, lorc, mfa_kr",
       "all keys are rebuilt on every read, which decoding pays for"},
      {"elitekv", "mha2mla with a slow search for pairs"},
      {"x_ecomla", "a start for distillation; it predicts nothing before"},
      {"kq_svd", "a rotated key for each head, as mha2mla keeps, and no latent that heads share"},
      {"mka, merge_layers, saap, share_attention, shared_attention, billm", "change more than the cache"}};
  return all;
}

Json passes_for_bits(const AutomaticMethod& method, const ModelSpec& spec, std::int64_t values, std::int64_t bits,
                     Effort effort) {
  Json passes = method.passes(spec, values, effort);
  const bool codes = !codes_of(bits).is_plain();
  for (Json& pass : passes) {
    const auto& kind = Registry<Pass>::instance().find(pass["name"].get<std::string>(), method.name);
    if (codes && kind.defaults.contains("spread")) pass["spread"] = true;
  }
  return passes;
}

CacheConfig codes_of(std::int64_t bits) {
  CacheConfig cache;
  if (bits == 8 * kBytesOfElement) return cache;
  cache.codec = {{"name", "rtn"}, {"bits", bits}, {"dtype", "float16"}};
  cache.rope_codec = cache.codec;
  cache.residual = 0;
  return cache;
}

std::int64_t most_cache_bytes(const ModelSpec& spec, std::int64_t bits) {
  const std::int64_t values = cached_elements(spec);
  if (bits == 8 * kBytesOfElement) return values * kBytesOfElement;
  // A row of codes ends with a whole byte.
  const std::int64_t of_row = kRowOverhead + (bits < 8 ? 1 : 0);
  std::int64_t rows = 0;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    for (const StreamShape& stream : spec.attention(layer).streams()) rows += stream.heads;
  }
  return values * bits / 8 + rows * of_row;
}

FittingSizes fitting_sizes(const AutomaticMethod& method, const ModelSpec& spec, std::int64_t bits,
                           std::int64_t bytes) {
  const std::int64_t layers = spec.layer_count(), whole = cached_elements(spec);
  std::string why;
  FittingSizes sizes;
  std::optional<CacheSize> least;
  for (std::int64_t width = 1; !least && width * layers <= std::max(whole, layers); ++width)
    least = size_at(method, spec, bits, width * layers, why);
  if (!least) throw ConfigError(why);
  sizes.least = *least;
  if (least->bytes > bytes) return sizes;
  std::int64_t fits = least->values, too_many = 2 * whole + 1;
  sizes.most = least;
  while (too_many - fits > 1) {
    const std::int64_t middle = fits + (too_many - fits) / 2;
    const std::optional<CacheSize> size = size_at(method, spec, bits, middle, why);
    if (size && size->bytes <= bytes) {
      fits = middle;
      sizes.most = size;
    } else {
      too_many = middle;
    }
  }
  return sizes;
}

}  // namespace mla
