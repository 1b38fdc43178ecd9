// In which numbers large matrix products multiply.
#pragma once

namespace torch::autograd {
struct AutogradContext;
}

namespace mla {

/// What float32 matrices are multiplied as, where a product has many rows (prompts, evaluation, calibration, training).
/// Sums, and all that is not a product with a weight matrix, are float32 either way, but for what a backward pass is
/// left (kept_activations.h) and, on devices other than the CPU, attention, whose softmax and sums stay float32.
enum class Products {
  kFloat32,
  kBFloat16,  ///< both factors rounded to bfloat16, to nearest even
};

/// Whether this processor multiplies bfloat16 faster than float32, and this program has a kernel for it.
bool has_fast_bfloat16();

/// What holds for products on this thread; float32 where no ProductsScope is open.
Products current_products();

class ProductsScope {
 public:
  explicit ProductsScope(Products products);
  ~ProductsScope();
  ProductsScope(const ProductsScope&) = delete;
  ProductsScope& operator=(const ProductsScope&) = delete;

 private:
  Products before_;
};

/// Gradients multiply as the forward pass did, whoever asks for them: kept with what is saved for them.
void save_products(torch::autograd::AutogradContext* context);
Products saved_products(torch::autograd::AutogradContext* context);

}  // namespace mla
