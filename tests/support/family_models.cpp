#include "tests/support/family_models.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>

#include "core/model/family.h"
#include "core/model/model_config.h"
#include "core/model/safetensors.h"

namespace mla::test {
namespace {

std::filesystem::path families_folder() { return std::filesystem::path(MLA_SOURCE_DIR) / "tests/model/families"; }

/// In [-1, 1), as weight() of make.py.
at::Tensor named_weight(const std::string& name, const std::vector<std::int64_t>& shape) {
  std::uint64_t state = 0xCBF29CE484222325;
  for (const char byte : name) state = (state ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
  at::Tensor tensor = at::empty(shape, at::kDouble);
  double* data = tensor.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    std::uint64_t z = state + static_cast<std::uint64_t>(i + 1) * 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    data[i] = static_cast<double>(z >> 11) * 0x1p-52 - 1;
  }
  return tensor;
}

/// Names and shapes of the file's tensors: fused matrices as one.
std::vector<std::pair<std::string, std::vector<std::int64_t>>> file_tensors(const ModelSpec& spec) {
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> all;
  for (const ModelParameter& parameter : model_parameters(spec)) {
    std::string name = parameter.name;
    bool goes_on = false;
    for (const FusedMap& map : fused_maps(spec.family)) {
      for (const std::string& part : map.parts) {
        const std::size_t at = name.find("." + part + ".");
        if (at == std::string::npos) continue;
        name.replace(at + 1, part.size(), map.name);
        goes_on = part != map.parts.front();
        break;
      }
    }
    if (goes_on) {
      all.back().second[0] += parameter.shape[0];
    } else {
      all.emplace_back(name, parameter.shape);
    }
  }
  return all;
}

at::Tensor tensor_of(const Json& rows) {
  if (!rows[0].is_array()) return at::tensor(rows.get<std::vector<double>>(), at::kDouble);
  std::vector<at::Tensor> all;
  for (const Json& row : rows) all.push_back(tensor_of(row));
  return at::stack(all);
}

}  // namespace

std::vector<std::string> family_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(families_folder())) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

FamilyModel::FamilyModel(const std::string& name) : record(read_json(families_folder() / (name + ".json"))) {
  const Json& config = record.at("config");
  spec = read_model_config(config, name);
  for (const auto& [tensor, shape] : file_tensors(spec)) {
    const bool norm = tensor.find("norm") != std::string::npos;
    const at::Tensor values = named_weight(tensor, shape);
    tensors.emplace_back(tensor, norm ? 0.3 * values + (spec.norms_add_one ? 0 : 1) : 0.4 * values);
  }
  write_json(folder / "config.json", config);
  write_safetensors(folder / "model.safetensors", tensors);
}

Checkpoint FamilyModel::load(at::ScalarType dtype) const {
  return load_checkpoint(folder.path(), {.placement = Placement::in(dtype)});
}

at::Tensor FamilyModel::recorded(const std::string& key) const {
  const at::Tensor rows = tensor_of(record.at(key));
  return key.ends_with("ids") ? rows.to(at::kLong) : rows;
}

}  // namespace mla::test
