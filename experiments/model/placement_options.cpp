#include "experiments/model/placement_options.h"

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "experiments/model/dtype.h"

namespace mla {

void PlacementOptions::declare(OptionList& options, const std::string& types) {
  options.add("dtype", dtype, "TYPE", cat(types, ": ", dtype_choices()));
  declare_device(options, device);
  declare_weights(options, weights);
  declare_products(options, products);
}

Placement PlacementOptions::placement() const {
  return Placement::in(parse_dtype(dtype, "--dtype"), parse_device(device, "--device"),
                       parse_products(products, "--products"));
}

HeldWeights PlacementOptions::held_weights() const { return parse_held_weights(weights, "--weights"); }

HeldWeights parse_held_weights(const std::string& name, const std::string& option) {
  std::vector<std::string> known;
  for (const auto& [held_name, held] : enum_names(HeldWeights{})) {
    if (name == held_name) return held;
    known.push_back(held_name);
  }
  throw ConfigError(cat(option, ": ", unknown_name(name, known)));
}

}  // namespace mla
