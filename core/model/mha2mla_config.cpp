#include "core/model/mha2mla_config.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "core/attention/grouped_query.h"
#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/model/model_config.h"
#include "core/model/torch_tensor.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char *kMainKey = "mha2mla", *kRopeKey = "RoPE", *kSvdKey = "SVD";

/// The options that state the conversion, in either form.
class Mha2MlaOptions {
 public:
  Mha2MlaOptions(const Json& config, std::string name)
      : form_(mha2mla_form(config)), config_(config), name_(std::move(name)) {}

  bool is_main() const { return form_ == Mha2MlaForm::kMain; }
  const std::string& name() const { return name_; }
  Json at(const char* object, const char* key) const {
    const Json stated = config_.value(object, Json::object());
    return stated.is_object() ? stated.value(key, Json()) : Json();
  }
  [[noreturn]] void refuse(const char* object, const char* key, const std::string& rule) const {
    throw DataError(cat(name_, ": ", object, ".", key, " = ", brief(at(object, key)), ": ", rule));
  }
  std::int64_t whole(const char* object, const char* key, std::int64_t least, std::int64_t most) const {
    const Json value = at(object, key);
    if (!value.is_number_integer() || value < least || value > most)
      refuse(object, key, cat("expected a whole number from ", least, " to ", most));
    return value.get<std::int64_t>();
  }

 private:
  Mha2MlaForm form_;
  const Json& config_;
  std::string name_;
};

enum class PairStrategy { kHigh, kUniform, kHighAndLow, kTwoNorm, kLow };

PairStrategy strategy_of(const Mha2MlaOptions& options) {
  struct Stated {
    Json number, name;  // of release 1.0.1, and of main
    PairStrategy strategy;
  };
  const std::vector<Stated> known = {{1, "high", PairStrategy::kHigh},
                                     {2, "uniform", PairStrategy::kUniform},
                                     {3, nullptr, PairStrategy::kHighAndLow},
                                     {4, "2-norm", PairStrategy::kTwoNorm},
                                     {5, "low", PairStrategy::kLow}};
  const char* object = options.is_main() ? kMainKey : kRopeKey;
  const Json stated = options.at(object, "partial_rope_version");
  for (const Stated& one : known) {
    if (!stated.is_null() && (stated == one.name || (!options.is_main() && stated == one.number))) return one.strategy;
  }
  options.refuse(object, "partial_rope_version",
                 options.is_main() ? "expected high, low, uniform or 2-norm"
                                   : "expected high (1), uniform (2), 3, 2-norm (4) or low (5); a model that keeps all "
                                     "pairs (0) is none of latent attention");
}

std::vector<std::int64_t> steps(std::int64_t begin, std::int64_t end, std::int64_t step) {
  std::vector<std::int64_t> all;
  for (std::int64_t pair = begin; pair < end; pair += step) all.push_back(pair);
  return all;
}

/// The pairs of every head where the strategy has one set for all; `half`: of how many.
std::vector<std::int64_t> common_pairs(const Mha2MlaOptions& options, PairStrategy strategy, std::int64_t half) {
  if (options.is_main()) {
    const std::int64_t kept = options.whole(kMainKey, "rope_dim_for_mla", 2, 2 * half - 2) / 2;
    if (strategy == PairStrategy::kHigh) return steps(0, kept, 1);
    if (strategy == PairStrategy::kLow) return steps(half - kept, half, 1);
    if (half % kept != 0)
      options.refuse(kMainKey, "rope_dim_for_mla",
                     cat("uniform: half of it must divide the ", half, " pairs of a head"));
    const std::int64_t step = half / kept;
    return steps(options.whole(kMainKey, "uniform_start_point", 0, step - 1), half, step);
  }
  const auto option = [&](const char* key) { return options.whole(kRopeKey, key, 1, half - 1); };
  if (strategy == PairStrategy::kHigh) return steps(0, option("top_k_rope_dim"), 1);
  if (strategy == PairStrategy::kLow) return steps(half - option("last_k_rope_dim"), half, 1);
  if (strategy == PairStrategy::kUniform) {
    const std::int64_t step = options.whole(kRopeKey, "uniform_step", 2, half);
    if (half % step != 0) options.refuse(kRopeKey, "uniform_step", cat("must divide the ", half, " pairs of a head"));
    return steps(options.whole(kRopeKey, "uniform_start_point", 0, step - 1), half, step);
  }
  std::vector<std::int64_t> both = steps(0, option("top_k_rope_dim"), 1);
  for (const std::int64_t pair : steps(half - option("last_k_rope_dim"), half, 1)) {
    if (pair <= both.back()) options.refuse(kRopeKey, "last_k_rope_dim", "these pairs are kept already");
    both.push_back(pair);
  }
  return both;
}

/// [layers, kv_heads, head_dim], smaller is kept first (main), or [layers, kv_heads, head_dim / 2], larger is (1.0.1).
at::Tensor pair_ranks(const Mha2MlaOptions& options, const fs::path& folder, const std::vector<std::int64_t>& shape) {
  const char* object = options.is_main() ? kMainKey : kRopeKey;
  const Json stated = options.at(object, "qk_tensor_path");
  if (!stated.is_string()) options.refuse(object, "qk_tensor_path", "expected the file with the ranks of all pairs");
  const fs::path file = folder / fs::path(stated.get<std::string>()).filename();
  if (!fs::is_regular_file(file))
    options.refuse(object, "qk_tensor_path",
                   cat("ranks of pairs are read from ", file.string(),
                       ", which is not there: copy the file that the model was made with"));
  const at::Tensor ranks = read_torch_tensor(file);
  if (ranks.sizes() != at::IntArrayRef(shape))
    throw DataError(
        cat(file.string(), ": expected ranks ", at::IntArrayRef(shape), " for this model, found ", ranks.sizes()));
  return ranks;
}

/// By layer and KV head.
std::vector<KeptPairs> ranked_pairs(const Mha2MlaOptions& options, const fs::path& folder, std::int64_t layers,
                                    std::int64_t kv_heads, std::int64_t half) {
  const std::int64_t kept = options.is_main() ? options.whole(kMainKey, "rope_dim_for_mla", 2, 2 * half - 2) / 2
                                              : options.whole(kRopeKey, "top_k_rope_dim", 1, half - 1);
  at::Tensor ranks = pair_ranks(options, folder, {layers, kv_heads, options.is_main() ? 2 * half : half});
  if (!options.is_main()) ranks = ranks.argsort(-1, true).argsort(-1, false);  // scores to ranks
  std::vector<KeptPairs> all(static_cast<std::size_t>(layers), KeptPairs(static_cast<std::size_t>(kv_heads)));
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    for (std::int64_t head = 0; head < kv_heads; ++head) {
      const at::Tensor own = ranks[layer][head].narrow(0, 0, half).lt(kept).nonzero().flatten().contiguous();
      if (own.numel() != kept) options.refuse(kMainKey, "qk_tensor_path", "its ranks are no order of a head's pairs");
      const auto* pairs = own.const_data_ptr<std::int64_t>();
      all[static_cast<std::size_t>(layer)][static_cast<std::size_t>(head)].assign(pairs, pairs + kept);
    }
  }
  return all;
}

LatentLayout layout_of(Mha2MlaFactors factors, std::int64_t rank, const HeadFields& heads, KeptPairs kept) {
  LatentLayout layout;
  layout.kept = std::move(kept);
  layout.content_width = heads.head_dim - layout.rope_width();
  layout.value_width = heads.head_dim;
  layout.key_up = factors != Mha2MlaFactors::kNone && factors != Mha2MlaFactors::kValuesAlone;
  layout.value_up = factors != Mha2MlaFactors::kNone && factors != Mha2MlaFactors::kKeysAlone;
  const std::int64_t keys = layout.key_up ? rank : heads.kv_heads * layout.content_width;
  const std::int64_t values = layout.value_up ? rank : heads.kv_heads * layout.value_width;
  const bool joint = factors == Mha2MlaFactors::kJoint;
  layout.latent_width = joint ? rank : keys + values;
  layout.key = {0, keys};
  layout.value = {joint ? 0 : keys, values};
  return layout;
}

/// The model before its conversion, which the rest of the config states.
ModelSpec source_spec(Json config, const Mha2MlaOptions& options) {
  for (const char* key : {kMainKey, kRopeKey, kSvdKey}) config.erase(key);
  ModelSpec spec = read_model_config(config, options.name());
  if (spec.family != "llama" && spec.family != "qwen2")
    throw DataError(
        cat(options.name(), ": mha2mla on the family ", spec.family, ": its code converts llama and qwen2 ",
            "as it says; others rotate and normalise in another order than their model, or were not tried"));
  if (!options.is_main() && spec.attention(0).heads()->query_bias)
    throw DataError(cat(options.name(), ": attention_bias: biases of release 1.0.1's latents are not read"));
  if (options.at(kMainKey, "is_gqa2mha2mla") == true)
    options.refuse(kMainKey, "is_gqa2mha2mla",
                   "keys that are repeated for each query head are not read; expected false");
  return spec;
}

}  // namespace

Mha2MlaForm mha2mla_form(const Json& config) {
  if (!config.is_object()) return Mha2MlaForm::kNone;
  const auto object = [&](const char* key) { return config.contains(key) && config.at(key).is_object(); };
  if (object(kMainKey)) return Mha2MlaForm::kMain;
  return object(kRopeKey) && object(kSvdKey) ? Mha2MlaForm::kRelease : Mha2MlaForm::kNone;
}

Mha2MlaFactors mha2mla_factors(const Json& config, const std::string& name) {
  const Mha2MlaOptions options(config, name);
  if (options.is_main()) {
    const std::map<std::string, Mha2MlaFactors> known = {{"joint", Mha2MlaFactors::kJoint},
                                                         {"split", Mha2MlaFactors::kSplit},
                                                         {"only_key", Mha2MlaFactors::kKeysAlone},
                                                         {"only_value", Mha2MlaFactors::kValuesAlone},
                                                         {"none", Mha2MlaFactors::kNone}};
    const Json stated = options.at(kMainKey, "svd_init_method");
    const auto found = stated.is_string() ? known.find(stated.get<std::string>()) : known.end();
    if (found != known.end()) return found->second;
    options.refuse(kMainKey, "svd_init_method", "known: joint, split, only_key, only_value, none");
  }
  // Methods differ in how their matrices began; 2 and 3 have a latent of keys and one of values.
  const std::int64_t method = options.whole(kSvdKey, "method", 1, 7);
  return method == 2 || method == 3 ? Mha2MlaFactors::kSplit : Mha2MlaFactors::kJoint;
}

ModelSpec read_mha2mla_config(const Json& config, const fs::path& folder) {
  const std::string name = (folder / "config.json").string();
  const Mha2MlaOptions options(config, name);
  ModelSpec spec = source_spec(config, options);
  if (options.at(kMainKey, "is_baseline") == true) return spec;
  const HeadFields heads = *spec.attention(0).heads();
  const std::int64_t half = heads.head_dim / 2, layers = spec.layer_count();
  const PairStrategy strategy = strategy_of(options);
  const Mha2MlaFactors factors = mha2mla_factors(config, name);
  const char* object = options.is_main() ? kMainKey : kSvdKey;
  const std::int64_t rank =
      factors == Mha2MlaFactors::kNone ? 0 : options.whole(object, "low_rank", 1, 2 * kMostHeadRows) * heads.kv_heads;
  std::vector<KeptPairs> pairs;
  if (strategy == PairStrategy::kTwoNorm) {
    pairs = ranked_pairs(options, folder, layers, heads.kv_heads, half);
  } else {
    const KeptPairs same(static_cast<std::size_t>(heads.kv_heads), common_pairs(options, strategy, half));
    pairs.assign(static_cast<std::size_t>(layers), same);
  }
  for (std::size_t i = 0; i < spec.layers.size(); ++i)
    spec.layers[i].attention =
        std::make_shared<LatentSpec>(LatentSpec::Options{layout_of(factors, rank, heads, pairs[i]), heads});
  try {
    check_spec(spec, name);
  } catch (const ConfigError& error) {
    throw DataError(error.what());
  }
  return spec;
}

}  // namespace mla
