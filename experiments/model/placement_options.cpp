#include "experiments/model/placement_options.h"

#include "experiments/model/dtype.h"

namespace mla {

void PlacementOptions::declare(OptionList& options, const std::string& types) {
  options.add("dtype", dtype, "TYPE", cat(types, ": ", dtype_choices()));
  declare_device(options, device);
  declare_products(options, products);
}

Placement PlacementOptions::placement() const {
  return Placement::in(parse_dtype(dtype, "--dtype"), parse_device(device, "--device"),
                       parse_products(products, "--products"));
}

}  // namespace mla
