#include "core/ops/products.h"

#include <torch/csrc/autograd/custom_function.h>

#include "core/ops/bfloat16_kernels.h"
#include "core/ops/vector_math.h"

namespace mla {
namespace {

thread_local Products products_now = Products::kFloat32;

}  // namespace

bool has_fast_bfloat16() {
#if MLA_GCC_ON_X86
  // Makers differ: a product of pairs in registers is as fast as a float32 one on AMD's processors, and takes four
  // times as long on Intel's, whose unit for matrices is the fast one.
  return has_bfloat16_tiles() || (has_bfloat16_registers() && __builtin_cpu_is("amd"));
#else
  return false;
#endif
}

Products current_products() { return products_now; }

ProductsScope::ProductsScope(Products products) : before_(products_now) { products_now = products; }
ProductsScope::~ProductsScope() { products_now = before_; }

void save_products(torch::autograd::AutogradContext* context) {
  context->saved_data["products"] = static_cast<std::int64_t>(products_now);
}
Products saved_products(torch::autograd::AutogradContext* context) {
  return static_cast<Products>(context->saved_data["products"].toInt());
}

}  // namespace mla
