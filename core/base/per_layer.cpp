#include "core/base/per_layer.h"

#include "core/base/error.h"
#include "core/base/fields.h"

namespace mla {

void PerLayer::check(const std::string& path, std::size_t layers, std::int64_t low, std::int64_t high) const {
  check_length(path, layers);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (values_[i] < low || values_[i] > high) {
      throw ConfigError(cat(describe(path, i), ": must lie in ", low, "..", high));
    }
  }
}

void PerLayer::check_length(const std::string& path, std::size_t layers) const {
  if (list_ && values_.size() != layers) {
    throw ConfigError(cat(path, ": a list of ", values_.size(), " values; the model has ", layers, " layers"));
  }
}

std::string PerLayer::describe(const std::string& path, std::size_t layer) const {
  return cat(path, list_ ? cat("[", layer, "]") : "", " = ", at(layer));
}

Json PerLayer::schema() {
  const Json integer = {{"type", "integer"}};
  return {{"anyOf", Json::array({integer, {{"type", "array"}, {"items", integer}, {"minItems", 1}}})}};
}

PerLayer PerLayer::read(const Json& json, const std::string& path) {
  if (json.is_number_integer()) {
    std::int64_t everywhere = 0;
    read_fields(json, path, everywhere);
    return PerLayer(everywhere);
  }
  if (!json.is_array() || json.empty()) {
    throw ConfigError(
        cat(path, ": expected an integer, or a list with one per layer, found ", kind_of(json), " ", brief(json)));
  }
  std::vector<std::int64_t> values;
  read_fields(json, path, values);
  return PerLayer(std::move(values));
}

Json PerLayer::write() const {
  if (list_) return Json(values_);
  return Json(values_[0]);
}

}  // namespace mla
