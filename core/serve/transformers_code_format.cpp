// A Hugging Face folder with code of its own: our tensors as they are, and the Python that computes with them.
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "core/attention/grouped_query.h"
#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/suggest.h"
#include "core/model/companions.h"
#include "core/model/model_config.h"
#include "core/model/save_in_shards.h"
#include "core/model/weight_files.h"
#include "core/serve/export_format.h"
#include "core/serve/served_folder.h"
#include "core/serve/served_layout.h"
#include "core/serve/transformers_code.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCodeWhere = "--format transformers_code";

/// The kinds of attention that the code computes.
constexpr std::array<std::string_view, 3> kCodedKinds = {"latent", "mkla", "grouped_query"};

void check_layer(const LayerSpec& layer, const std::string& own) {
  const std::string kind = layer.attention->kind();
  if (std::find(kCodedKinds.begin(), kCodedKinds.end(), kind) == kCodedKinds.end())
    throw ConfigError(cat(own, " is of kind ", kind, ", and this code computes the kinds ",
                          join({kCodedKinds.begin(), kCodedKinds.end()}),
                          "; convert with mha2mla, transmla, care, x_ecomla or mkla, or keep the model here"));
  const LatentLayout* layout = latent_layout(*layer.attention);
  if (layout && layout->latent_norm)
    throw ConfigError(cat(own, " normalises its latent: the model was read from a folder that is served already; ",
                          "that folder serves as it is"));
}

/// All layers are of kinds that the code has, and one at least is converted.
void check_layers(const ModelSpec& spec, bool padded) {
  if (padded)
    throw ConfigError(cat(kCodeWhere, ": --pad is for engines' own classes; leave it out, or --format deepseek_v3"));
  refuse_other_blocks(spec, kCodeWhere);
  refuse_rotation_by_length(spec, kCodeWhere);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) check_layer(spec.layers[i], cat(kCodeWhere, ": layer ", i));
  const bool converted = std::any_of(spec.layers.begin(), spec.layers.end(),
                                     [](const LayerSpec& layer) { return !grouped_query_heads(*layer.attention); });
  if (!converted)
    throw ConfigError(cat(kCodeWhere, ": all layers are of kind grouped_query: convert the model first (mlaforge ",
                          "convert); unconverted, its own folder serves"));
}

/// The description without storage: what is written is dense.
ModelSpec dense_spec(ModelSpec spec) {
  spec.storage.clear();
  for (LayerSpec& layer : spec.layers) layer.storage.clear();
  return spec;
}

Json layers_json(const ModelSpec& spec) {
  Json all = Json::array();
  for (const LayerSpec& layer : spec.layers) {
    Json fields = layer.attention->fields();
    fields["kind"] = layer.attention->kind();
    fields["scale"] = softmax_scale(spec, *layer.attention->heads());
    fields["intermediate"] = layer.feed_forward.width;
    fields["mlp_bias"] = layer.feed_forward.bias;
    all.push_back(std::move(fields));
  }
  return all;
}

/// Masks of sliding layers, as the library's Qwen2 reads them.
void set_windows(const ModelSpec& spec, Json& config) {
  const std::vector<std::int64_t> windows = as_uniform(spec).windows;
  for (const char* key : {"sliding_window", "use_sliding_window", "max_window_layers", "layer_types"})
    config.erase(key);
  config["use_sliding_window"] = !windows.empty();
  config["sliding_window"] = nullptr;  // absent, it would be a family's default
  if (windows.empty()) return;
  config["sliding_window"] = *std::max_element(windows.begin(), windows.end());
  for (const std::int64_t window : windows)
    config["layer_types"].push_back(window > 0 ? "sliding_attention" : "full_attention");
}

Json code_config(const Checkpoint& model, const std::string& dtype) {
  const ModelSpec spec = dense_spec(model.decoder.spec());
  const at::Tensor frequencies = spec.rotary().frequencies(spec.max_positions).contiguous();
  const double* values = frequencies.const_data_ptr<double>();
  Json config = write_model_config(spec, model.config, model.source.string());
  set_windows(spec, config);
  config.update({{"model_type", kCodeType},
                 {"architectures", {"MlaforgeForCausalLM"}},
                 {"auto_map",
                  {{"AutoConfig", "configuration_mlaforge.MlaforgeConfig"},
                   {"AutoModelForCausalLM", "modeling_mlaforge.MlaforgeForCausalLM"}}},
                 {"rope_frequencies", std::vector<double>(values, values + frequencies.numel())},
                 {"latent_layers", layers_json(spec)},
                 {"dtype", dtype},
                 {"torch_dtype", dtype}});
  return config;
}

/// All weights, dense, as `type`; matrices are made when they are written.
std::vector<TensorSource> dense_tensors(const Decoder& decoder, at::ScalarType type) {
  std::vector<TensorSource> all;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    if (!tensor.defined()) return;
    all.push_back({name, type, tensor.sizes().vec(), [tensor, type] { return tensor.detach().to(at::kCPU, type); }});
  };
  // Visiting hands out references for replacement; writing replaces nothing.
  const_cast<Decoder&>(decoder).visit_weights(
      {[&](const std::string& name, Linear& map) {
         if (map.defined())
           all.push_back({name + ".weight", type, {map.rows(), map.columns()}, [map, type] {
                            return map.to_dense().detach().to(at::kCPU, type);
                          }});
         add(name + ".bias", map.bias());
       },
       [&](const std::string& name, at::Tensor& tensor) { add(name, tensor); }});
  return all;
}

class TransformersCodeFormat final : public ExportFormat {
 public:
  explicit TransformersCodeFormat(Options) {}

  std::vector<std::string> types() const override { return {"float32", "bfloat16", "float16"}; }

  ExportReport write(const Checkpoint& model, const ExportRequest& request, const fs::path& folder) const override {
    const ModelSpec& spec = model.decoder.spec();
    check_layers(spec, request.pad);
    const at::ScalarType type = request.dtype == "bfloat16"  ? at::kBFloat16
                                : request.dtype == "float16" ? at::kHalf
                                                             : at::kFloat;
    write_weight_files(folder, dense_tensors(model.decoder, type), kShardBytes, [] {});
    copy_companions(model.source, folder);
    write_file_atomically(folder / kConfigurationFile, configuration_code());
    write_file_atomically(folder / kModelingFile, modeling_code());
    write_json(folder / "config.json", code_config(model, request.dtype));
    return report(spec);
  }

 private:
  static ExportReport report(const ModelSpec& spec) {
    ExportReport report;
    report.cached_values = (cached_elements(spec) + spec.layer_count() - 1) / spec.layer_count();
    const std::string none = "runs no code beside a model; --format deepseek_v3 where the model fits it";
    report.engines = {{kTransformers, true, "with trust_remote_code=True; caches the latent, absorbed decode"},
                      {kVllm, false, none},
                      {kSglang, false, none},
                      {kLlamaCpp, false, none},
                      {kMlx, false, none}};
    Json cached = Json::array();
    for (const LayerSpec& layer : spec.layers) cached.push_back(cached_elements(*layer.attention));
    report.details = {{"cached_values_by_layer", cached}};
    report.how_to_load = {
        "- transformers >= 5, < 6: `AutoModelForCausalLM.from_pretrained(FOLDER, dtype=\"auto\", "
        "trust_remote_code=True)`; without the flag it is refused"};
    return report;
  }
};

const Registration<ExportFormat, TransformersCodeFormat> kTransformersCodeFormat(
    "transformers_code",
    "a Hugging Face folder with code of its own: ranks and pairs by layer, mean keys, QK-norm, biases, sliding "
    "windows");

}  // namespace
}  // namespace mla
