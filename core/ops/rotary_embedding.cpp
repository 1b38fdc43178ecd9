#include "core/ops/rotary_embedding.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/ops/vector_math.h"

namespace mla {
namespace {

/// direction 1 rotates forward, -1 back.
template <class T>
MLA_INLINE void rotate(const T* x, const T* cosine, const T* sine, T* y, std::int64_t pairs, std::int64_t width,
                       T direction) {
#pragma omp simd
  for (std::int64_t k = 0; k < pairs; ++k) {
    const T first = x[k], second = x[pairs + k], s = direction * sine[k];
    y[k] = first * cosine[k] - second * s;
    y[pairs + k] = second * cosine[k] + first * s;
  }
  for (std::int64_t k = 2 * pairs; k < width; ++k) y[k] = x[k];
}

/// Strides of one head and, of the tables, from a head to the next (0: one table for all).
struct Shape {
  std::int64_t heads, width, pairs, x_stride, group, table_stride;
};

template <class T>
MLA_INLINE void rotate_token(const T* x, const T* cosine, const T* sine, T* y, const Shape& shape, T direction) {
  for (std::int64_t head = 0; head < shape.heads; ++head) {
    const std::int64_t table = head / shape.group * shape.table_stride;
    rotate(x + head * shape.x_stride, cosine + table, sine + table, y + head * shape.width, shape.pairs, shape.width,
           direction);
  }
}
MLA_VECTORISED void kernel(const float* x, const float* c, const float* s, float* y, const Shape& shape,
                           float direction) {
  rotate_token(x, c, s, y, shape, direction);
}
MLA_VECTORISED void kernel(const double* x, const double* c, const double* s, double* y, const Shape& shape,
                           double direction) {
  rotate_token(x, c, s, y, shape, direction);
}

at::Tensor rotated(const at::Tensor& given, const at::Tensor& cosine, const at::Tensor& sine, double direction) {
  const at::Tensor x = given.stride(3) == 1 ? given : given.contiguous();
  const std::int64_t batch = x.size(0), heads = x.size(1), length = x.size(2), width = x.size(3),
                     pairs = cosine.size(-1);
  const at::Tensor y = at::empty({batch, length, heads, width}, x.options().requires_grad(false));
  const bool shared = cosine.dim() == 2;
  const Shape shape{
      heads, width, pairs, x.stride(1), shared ? heads : heads / cosine.size(0), shared ? 0 : length * pairs};
  with_type(x, [&]<class T>(T*) {
    const T *in = x.const_data_ptr<T>(), *c = cosine.const_data_ptr<T>(), *s = sine.const_data_ptr<T>();
    T* out = y.mutable_data_ptr<T>();
    for_rows(batch * length, heads * width, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t position = row % length;
        kernel(in + row / length * x.stride(0) + position * x.stride(2), c + position * pairs, s + position * pairs,
               out + row * heads * width, shape, static_cast<T>(direction));
      }
    });
  });
  return y.transpose(1, 2);
}

struct RotateHeads : torch::autograd::Function<RotateHeads> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& cosine,
                            const at::Tensor& sine) {
    context->save_for_backward({cosine, sine});
    return rotated(x, cosine, sine, 1);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto tables = context->get_saved_variables();
    return {rotated(gradients[0], tables[0], tables[1], -1), at::Tensor(), at::Tensor()};
  }
};

/// The same through ATen, for other devices and dtypes.
at::Tensor composed(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
  const std::int64_t pairs = cosine.size(-1), rest = x.size(-1) - 2 * pairs;
  const std::int64_t group = cosine.dim() == 2 ? 1 : x.size(1) / cosine.size(0);
  const at::Tensor c = group == 1 ? cosine : cosine.repeat_interleave(group, 0);
  const at::Tensor s = group == 1 ? sine : sine.repeat_interleave(group, 0);
  const at::Tensor first = x.narrow(-1, 0, pairs), second = x.narrow(-1, pairs, pairs);
  return at::cat({first * c - second * s, second * c + first * s, x.narrow(-1, 2 * pairs, rest)}, -1);
}

}  // namespace

at::Tensor rotate_heads(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
  if (cosine.size(-1) == 0) return x;
  // A batch of sequences that differ in length has positions, and tables of them, for more tokens than it keeps.
  const at::Tensor c = cosine.narrow(-2, 0, x.size(2)), s = sine.narrow(-2, 0, x.size(2));
  if (!has_kernels(x, c)) return composed(x, c, s);
  if (!at::GradMode::is_enabled()) return rotated(x, c.contiguous(), s.contiguous(), 1);
  return RotateHeads::apply(x, c.contiguous(), s.contiguous());
}

}  // namespace mla
