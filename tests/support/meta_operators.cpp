// Shapes of the operations that LibTorch's meta device lacks without Python, where PyTorch registers them. What reads a
// value (item) stays without: on another device it would wait for it.
#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <torch/library.h>

#include <optional>

namespace mla::test {
namespace {

void expect_meta(const at::Tensor& tensor, const char* what) { TORCH_CHECK(tensor.is_meta(), what, ": on the host"); }

at::Tensor meta_index_select(const at::Tensor& self, std::int64_t dimension, const at::Tensor& index) {
  expect_meta(self, "index_select");
  expect_meta(index, "the index of index_select");
  std::vector<std::int64_t> sizes = self.sizes().vec();
  sizes.at(static_cast<std::size_t>(dimension < 0 ? dimension + self.dim() : dimension)) = index.numel();
  return at::empty(sizes, self.options());
}

at::Tensor meta_where(const at::Tensor& condition, const at::Tensor& self, const at::Tensor& other) {
  expect_meta(condition, "where");
  const auto sizes = at::infer_size(condition.sizes(), at::infer_size(self.sizes(), other.sizes()));
  return at::empty(sizes, condition.options().dtype(at::result_type(self, other)));
}

at::Tensor& meta_where_out(const at::Tensor& condition, const at::Tensor& self, const at::Tensor& other,
                           at::Tensor& out) {
  return out.resize_(meta_where(condition, self, other).sizes()), out;
}

at::Tensor& meta_logical_and(const at::Tensor& self, const at::Tensor& other, at::Tensor& out) {
  expect_meta(self, "logical_and");
  expect_meta(other, "logical_and");
  return out.resize_(at::infer_size(self.sizes(), other.sizes())), out;
}

at::Tensor& meta_logical_not(const at::Tensor& self, at::Tensor& out) { return out.resize_(self.sizes()), out; }

at::Tensor meta_embedding_backward(const at::Tensor& gradient, const at::Tensor& indices, std::int64_t rows,
                                   std::int64_t, bool) {
  expect_meta(indices, "embedding");
  return at::empty({rows, gradient.size(-1)}, gradient.options());
}

void meta_fused_adamw(at::TensorList parameters, at::TensorList gradients, at::TensorList means,
                      at::TensorList mean_squares, at::TensorList, at::TensorList steps, double, double, double, double,
                      double, bool, bool, const std::optional<at::Tensor>&, const std::optional<at::Tensor>&) {
  for (const at::TensorList list : {parameters, gradients, means, mean_squares, steps}) {
    for (const at::Tensor& tensor : list) expect_meta(tensor, "AdamW");
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, Meta, library) {
  library.impl("index_select", meta_index_select);
  library.impl("where.self", meta_where);
  library.impl("where.self_out", meta_where_out);
  library.impl("logical_and.out", meta_logical_and);
  library.impl("logical_not.out", meta_logical_not);
  library.impl("embedding_dense_backward", meta_embedding_backward);
  library.impl("_fused_adamw_", meta_fused_adamw);
}

}  // namespace mla::test
