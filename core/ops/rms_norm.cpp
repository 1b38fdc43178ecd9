#include "core/ops/rms_norm.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/ops/kept_activations.h"
#include "core/ops/vector_math.h"

namespace mla {
namespace {

template <class T>
MLA_INLINE T inverse_root_mean_square(const T* x, std::int64_t width, T epsilon) {
  T squares = 0;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < width; ++i) squares += x[i] * x[i];
  return 1 / std::sqrt(squares / static_cast<T>(width) + epsilon);
}

template <class T>
MLA_INLINE void forward_rows(const T* x, const T* weight, T* y, std::int64_t rows, std::int64_t width, T epsilon) {
  for (std::int64_t row = 0; row < rows; ++row, x += width, y += width) {
    const T scale = inverse_root_mean_square(x, width, epsilon);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) y[i] = x[i] * scale * weight[i];
  }
}

/// With s = 1 / sqrt(mean(x^2) + epsilon): dx = s (w dy - x s^2 mean(w dy x)), dw = sum over rows of dy x s.
template <class T>
MLA_INLINE void backward_rows(const T* x, const T* weight, const T* dy, T* dx, T* dweight, std::int64_t rows,
                              std::int64_t width, T epsilon) {
  for (std::int64_t row = 0; row < rows; ++row, x += width, dy += width, dx += width) {
    const T scale = inverse_root_mean_square(x, width, epsilon);
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t i = 0; i < width; ++i) dot += dy[i] * weight[i] * x[i];
    const T along = dot * scale * scale / static_cast<T>(width);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
      dx[i] = scale * (dy[i] * weight[i] - x[i] * along);
      dweight[i] += dy[i] * x[i] * scale;
    }
  }
}

MLA_VECTORISED void forward_kernel(const float* x, const float* w, float* y, std::int64_t rows, std::int64_t width,
                                   float epsilon) {
  forward_rows(x, w, y, rows, width, epsilon);
}
MLA_VECTORISED void forward_kernel(const double* x, const double* w, double* y, std::int64_t rows, std::int64_t width,
                                   double epsilon) {
  forward_rows(x, w, y, rows, width, epsilon);
}
MLA_VECTORISED void backward_kernel(const float* x, const float* w, const float* dy, float* dx, float* dw,
                                    std::int64_t rows, std::int64_t width, float epsilon) {
  backward_rows(x, w, dy, dx, dw, rows, width, epsilon);
}
MLA_VECTORISED void backward_kernel(const double* x, const double* w, const double* dy, double* dx, double* dw,
                                    std::int64_t rows, std::int64_t width, double epsilon) {
  backward_rows(x, w, dy, dx, dw, rows, width, epsilon);
}

at::Tensor normalised(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  at::Tensor y = at::empty_like(x);
  const std::int64_t width = x.size(-1);
  with_type(x, [&]<class T>(T*) {
    const T *in = x.const_data_ptr<T>(), *scale = weight.const_data_ptr<T>();
    T* out = y.mutable_data_ptr<T>();
    for_rows(x.numel() / width, width, [&](std::int64_t begin, std::int64_t end) {
      forward_kernel(in + begin * width, scale, out + begin * width, end - begin, width, static_cast<T>(epsilon));
    });
  });
  return y;
}

bool kernels_serve(const at::Tensor& x, const at::Tensor& weight) {
  return has_kernels(x, weight) && x.is_contiguous() && weight.dim() == 1 && weight.is_contiguous();
}

at::Tensor composed_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return at::rms_norm(x, {x.size(-1)}, {}, epsilon) * weight;
}

struct Gradient {
  at::Tensor x, weight;
};

Gradient gradient_by_kernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy, double epsilon) {
  const at::Tensor dx = at::empty_like(x);
  const std::int64_t width = x.size(-1);
  // One partial sum per thread.
  const at::Tensor partial = at::zeros({at::get_num_threads(), width}, weight.options().requires_grad(false));
  with_type(x, [&]<class T>(T*) {
    const T *in = x.const_data_ptr<T>(), *scale = weight.const_data_ptr<T>(), *out = dy.const_data_ptr<T>();
    T *din = dx.mutable_data_ptr<T>(), *dscale = partial.mutable_data_ptr<T>();
    for_rows(x.numel() / width, width, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t at = begin * width;
      backward_kernel(in + at, scale, out + at, din + at, dscale + at::get_thread_num() * width, end - begin, width,
                      static_cast<T>(epsilon));
    });
  });
  return {dx, partial.sum(0)};
}

/// The same through ATen, for other devices.
Gradient composed_norm_gradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy, double epsilon) {
  const at::Tensor scale = x.square().mean(-1, /*keepdim=*/true).add_(epsilon).rsqrt_(), unit = x * scale;
  const at::Tensor g = dy * weight;
  return {scale * (g - unit * (g * unit).mean(-1, /*keepdim=*/true)), (dy * unit).flatten(0, -2).sum(0)};
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            double epsilon) {
    context->save_for_backward({kept(x), weight});
    context->saved_data["epsilon"] = epsilon;
    return kernels_serve(x, weight) ? normalised(x, weight, epsilon) : composed_norm(x, weight, epsilon);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &weight = saved[1], x = taken(saved[0], weight.scalar_type()), dy = gradients[0].contiguous();
    const double epsilon = context->saved_data["epsilon"].toDouble();
    const Gradient gradient = kernels_serve(x, weight) ? gradient_by_kernel(x, weight, dy, epsilon)
                                                       : composed_norm_gradient(x, weight, dy, epsilon);
    return {gradient.x, gradient.weight, at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const bool with_gradients = at::GradMode::is_enabled();
  if (kernels_serve(x, weight)) {
    // Decoding norms a row at a time: the bookkeeping of a gradient nobody wants takes longer than the norm.
    return with_gradients ? RmsNorm::apply(x, weight, epsilon) : normalised(x, weight, epsilon);
  }
  return with_gradients && keeps_rounded(x) ? RmsNorm::apply(x, weight, epsilon) : composed_norm(x, weight, epsilon);
}

}  // namespace mla
