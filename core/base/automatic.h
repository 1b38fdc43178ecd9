// A whole number for each layer, or "auto": to be found out.
#pragma once

#include <optional>
#include <string>

#include "core/base/error.h"
#include "core/base/per_layer.h"

namespace mla {

/// Reads from JSON as `"auto"`, `16` or `[16, 8, 8]`. A field type for options structs; "auto" by default.
class PerLayerOrAuto {
 public:
  bool automatic() const { return !given_; }
  const PerLayer& given() const { return *given_; }

  static PerLayerOrAuto read(const Json& json, const std::string& path) {
    PerLayerOrAuto value;
    if (json.is_string() && json.get_ref<const std::string&>() == "auto") return value;
    if (json.is_string()) throw ConfigError(cat(path, ": expected \"auto\", an integer, or a list with one per layer"));
    value.given_ = PerLayer::read(json, path);
    return value;
  }
  static Json schema() { return {{"anyOf", Json::array({{{"const", "auto"}}, PerLayer::schema()})}}; }
  Json write() const { return given_ ? given_->write() : Json("auto"); }
  bool operator==(const PerLayerOrAuto&) const = default;

 private:
  std::optional<PerLayer> given_;
};

}  // namespace mla
