// --dtype, --device, --products and --weights of the commands that load a model.
#pragma once

#include <string>

#include "core/cli/options.h"
#include "core/device/placement.h"
#include "core/model/checkpoint.h"

namespace mla {

struct PlacementOptions {
  std::string dtype = "float32", device = "cpu", products = "float32", weights = "dense";

  /// `types`: what is of that number type.
  void declare(OptionList& options, const std::string& types = "number type of the arithmetic");

  /// Throws ConfigError naming the option.
  Placement placement() const;
  /// `products` as reports state it: what it comes to on this machine. Likewise.
  std::string used_products() const { return settled_products(products, "--products"); }
  HeldWeights held_weights() const;
  /// Both.
  LoadOptions loading() const { return {.placement = placement(), .weights = held_weights()}; }
};

/// dense or packed. Throws ConfigError naming `option` for anything else.
HeldWeights parse_held_weights(const std::string& name, const std::string& option);
/// --weights alone; `target` as of declare_device().
template <class T>
void declare_weights(OptionList& options, T& target, const std::string& otherwise = "") {
  options.add(
      "weights", target, "HELD",
      cat("how a GGUF file's matrices are held: dense | packed (blocks as they are; products round x to 8 bits)",
          otherwise.empty() ? "" : "; default: ", otherwise));
}

/// --device alone, where a config may say it too or there is one number type; `target` is std::string, or std::optional
/// of it.
template <class T>
void declare_device(OptionList& options, T& target, const std::string& otherwise = "") {
  options.add("device", target, "DEVICE",
              cat("device that holds the model and computes: ", device_choices(),
                  otherwise.empty() ? "" : "; default: ", otherwise));
}

/// --products alone, likewise.
template <class T>
void declare_products(OptionList& options, T& target, const std::string& otherwise = "") {
  options.add("products", target, "TYPE",
              cat("what large float32 products multiply, sums in float32: ", products_choices(),
                  otherwise.empty() ? "" : "; default: ", otherwise));
}

}  // namespace mla
