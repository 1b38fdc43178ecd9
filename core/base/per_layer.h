// A whole number given once for all layers, or as a list with one entry per layer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// Reads from JSON as `16` or `[16, 8, 8]`. A field type for options structs.
class PerLayer {
 public:
  PerLayer() = default;
  PerLayer(std::int64_t everywhere) : values_{everywhere} {}
  PerLayer(std::vector<std::int64_t> values) : values_(std::move(values)), list_(true) {}

  /// The value of one layer, counted from 0.
  std::int64_t at(std::size_t layer) const { return list_ ? values_.at(layer) : values_.at(0); }

  /// Throws ConfigError when this is a list whose length is not `layers`, or when a value is outside [low, high].
  void check(const std::string& path, std::size_t layers, std::int64_t low, std::int64_t high) const;

  /// Throws ConfigError when this is a list whose length is not `layers`.
  void check_length(const std::string& path, std::size_t layers) const;

  /// "pairs = 40", or "pairs[3] = 40" for a list: the value of one layer in an error message.
  std::string describe(const std::string& path, std::size_t layer) const;

  static PerLayer read(const Json& json, const std::string& path);
  static Json schema();  ///< see core/base/field_schema.h
  Json write() const;
  bool operator==(const PerLayer&) const = default;

 private:
  std::vector<std::int64_t> values_{0};
  bool list_ = false;
};

}  // namespace mla
