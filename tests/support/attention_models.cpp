#include "tests/support/attention_models.h"

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "tests/support/tiny_models.h"

namespace mla::test {
namespace {

/// Other pairs in each KV head; a latent shared by keys and values.
LatentLayout joint_layout() {
  LatentLayout layout;
  layout.kept = {{0, 3}, {2, 1}};
  layout.content_width = 4;
  layout.value_width = 8;
  layout.latent_width = 7;
  layout.key = layout.value = {0, 7};
  return layout;
}

std::shared_ptr<const AttentionSpec> make_spec(const std::string& kind, const Json& fields) {
  Json config = fields;
  config["name"] = kind;
  return Registry<AttentionSpec>::instance().make(config, "layer");
}

}  // namespace

ModelSpec spec_with_attention(const std::string& kind, const std::string& tiny) {
  UniformModel uniform = tiny_model(tiny);
  uniform.layers = 3;
  ModelSpec spec = uniform.spec();
  HeadFields heads = *spec.attention(1).heads();
  if (kind == "grouped_query") return spec;
  if (kind == "latent") {
    for (LayerSpec& layer : spec.layers)
      layer.attention = std::make_shared<LatentSpec>(LatentSpec::Options{joint_layout(), *layer.attention->heads()});
    return spec;
  }
  if (kind == "mkla") {
    const std::vector<Json> layers = {
        {{"latent_width", 5}, {"slots", {0, 3, 0}}, {"layout", "dual"}, {"position", true}},
        {{"latent_width", 6}, {"slots", {2}}, {"layout", "std"}, {"position", true}, {"down_bias", false}},
        {{"latent_width", 9}, {"slots", Json::array()}, {"layout", "std"}, {"position", false}}};
    heads.qk_norm = heads.key_bias = heads.value_bias = false;
    heads.output_bias = true;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      Json fields = write_fields(heads);
      fields.update(layers[i]);
      spec.layers[i].attention = make_spec(kind, fields);
    }
    return spec;
  }
  if (kind == "shared_attention") {
    heads.qk_norm = false;
    heads.query_bias = heads.key_bias = false;
    for (const std::size_t layer : {1, 2}) spec.layers[layer].attention = make_spec(kind, write_fields(heads));
    return spec;
  }
  if (kind == "split_latent") {
    const std::vector<Json> layers = {
        {{"keys", "projected"},
         {"key_heads", heads.kv_heads},
         {"key_width", 5},
         {"query_up", true},
         {"value_width", 8}},
        {{"keys", "rebuilt"}, {"key_width", 5}, {"value_width", 6}, {"value_up", true}},
        {{"key_heads", heads.kv_heads}, {"key_width", heads.head_dim}, {"value_width", 7}}};
    heads.qk_norm = false;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      Json fields = write_fields(heads);
      fields.update(layers[i]);
      spec.layers[i].attention = make_spec(kind, fields);
    }
    return spec;
  }
  if (kind == "mfa") {
    // As trained from nothing, as converted with pairs and a value width of its own, and with key reuse.
    const std::vector<Json> layers = {{{"query_rank", 6}, {"query_norm", true}},
                                      {{"key_width", 12}, {"value_width", 5}, {"pairs", {0, 1, 1, 2, 3, 0}}},
                                      {{"key_width", 6}, {"pairs", {3, 0, 2}}, {"query_rank", 5}, {"key_reuse", true}}};
    heads.qk_norm = false;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (layers[i].contains("key_reuse")) heads.value_bias = false;
      Json fields = write_fields(heads);
      fields.update(layers[i]);
      spec.layers[i].attention = make_spec(kind, fields);
    }
    return spec;
  }
  throw std::logic_error("no model with attention of kind " + kind);
}

}  // namespace mla::test
