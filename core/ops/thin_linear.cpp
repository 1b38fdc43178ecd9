#include "core/ops/thin_linear.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <vector>

#include "core/ops/matrix_product.h"
#include "core/ops/row_products.h"

namespace mla {
namespace {

MLA_VECTORISED void narrow_kernel(const float* x, std::int64_t count, const float* weight, std::int64_t rows,
                                  std::int64_t width, float* out, std::int64_t out_stride) {
  products<float, 32>({x, width}, count, {weight, width}, rows, width, out, out_stride, false);
}
MLA_VECTORISED void narrow_kernel(const double* x, std::int64_t count, const double* weight, std::int64_t rows,
                                  std::int64_t width, double* out, std::int64_t out_stride) {
  products<double, 32>({x, width}, count, {weight, width}, rows, width, out, out_stride, false);
}
MLA_AVX512 void wide_kernel(const float* x, std::int64_t count, const float* weight, std::int64_t rows,
                            std::int64_t width, float* out, std::int64_t out_stride) {
  products<float, 64>({x, width}, count, {weight, width}, rows, width, out, out_stride, false);
}
MLA_AVX512 void wide_kernel(const double* x, std::int64_t count, const double* weight, std::int64_t rows,
                            std::int64_t width, double* out, std::int64_t out_stride) {
  products<double, 64>({x, width}, count, {weight, width}, rows, width, out, out_stride, false);
}
template <class T>
void kernel(const T* x, std::int64_t count, const T* weight, std::int64_t rows, std::int64_t width, T* out,
            std::int64_t out_stride) {
  if (has_avx512()) {
    wide_kernel(x, count, weight, rows, width, out, out_stride);
  } else {
    narrow_kernel(x, count, weight, rows, width, out, out_stride);
  }
}

/// out [heads, columns] = x [heads, in] weight for `columns` columns of a weight whose rows are `stride` long.
template <class T, int BYTES>
MLA_INLINE void sum_columns(const T* x, std::int64_t heads, std::int64_t in, const T* weight, std::int64_t stride,
                            std::int64_t columns, T* out) {
  for (std::int64_t h = 0; h < heads; ++h) std::fill(out + h * stride, out + h * stride + columns, T(0));
  constexpr T kOnes[6] = {1, 1, 1, 1, 1, 1};
  for (std::int64_t h = 0; h < heads; h += 6) {
    const std::int64_t some = heads - h < 6 ? heads - h : 6;
    weighted_sums<T, BYTES>(x + h * in, in, kOnes, {weight, stride}, in, columns, out + h * stride, stride, some);
  }
}
MLA_VECTORISED void narrow_sum_kernel(const float* x, std::int64_t heads, std::int64_t in, const float* weight,
                                      std::int64_t stride, std::int64_t columns, float* out) {
  sum_columns<float, 32>(x, heads, in, weight, stride, columns, out);
}
MLA_VECTORISED void narrow_sum_kernel(const double* x, std::int64_t heads, std::int64_t in, const double* weight,
                                      std::int64_t stride, std::int64_t columns, double* out) {
  sum_columns<double, 32>(x, heads, in, weight, stride, columns, out);
}
MLA_AVX512 void wide_sum_kernel(const float* x, std::int64_t heads, std::int64_t in, const float* weight,
                                std::int64_t stride, std::int64_t columns, float* out) {
  sum_columns<float, 64>(x, heads, in, weight, stride, columns, out);
}
MLA_AVX512 void wide_sum_kernel(const double* x, std::int64_t heads, std::int64_t in, const double* weight,
                                std::int64_t stride, std::int64_t columns, double* out) {
  sum_columns<double, 64>(x, heads, in, weight, stride, columns, out);
}
template <class T>
void sum_kernel(const T* x, std::int64_t heads, std::int64_t in, const T* weight, std::int64_t stride,
                std::int64_t columns, T* out) {
  if (has_avx512()) {
    wide_sum_kernel(x, heads, in, weight, stride, columns, out);
  } else {
    narrow_sum_kernel(x, heads, in, weight, stride, columns, out);
  }
}

/// Rows or columns that one thread takes at a time.
constexpr std::int64_t kPiece = 64;

/// Calls work(KV head, first, count) for pieces of `size` rows or columns of each KV head, on all threads.
template <class Work>
void for_pieces(std::int64_t kv_heads, std::int64_t size, std::int64_t operations, const Work& work) {
  const std::int64_t pieces = (size + kPiece - 1) / kPiece;
  for_rows(kv_heads * pieces, kPiece * operations, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i % pieces * kPiece;
      work(i / pieces, first, std::min(kPiece, size - first));
    }
  });
}

/// A run of output elements.
struct Piece {
  std::int64_t first, count;
};

/// y [batch, heads, out]: `compute` fills a piece of the outputs of the query heads of one KV head from their inputs.
template <class Compute>
at::Tensor by_kv_head(const at::Tensor& given, std::int64_t out, std::int64_t kv_heads, const Compute& compute) {
  const at::Tensor x = given.contiguous();
  const std::int64_t batch = x.size(0), heads = x.size(1), in = x.size(2), group = heads / kv_heads;
  const at::Tensor y = at::empty({batch, heads, out}, x.options());
  with_type(x, [&]<class T>(T*) {
    const T* from = x.const_data_ptr<T>();
    T* to = y.mutable_data_ptr<T>();
    for_pieces(kv_heads, out, batch * group * in, [&](std::int64_t j, std::int64_t first, std::int64_t count) {
      for (std::int64_t b = 0; b < batch; ++b) {
        const std::int64_t head = b * heads + j * group;
        compute(from + head * in, group, j, Piece{first, count}, to + head * out + first);
      }
    });
  });
  return y;
}

}  // namespace

bool thin_rows_serve(const at::Tensor& x) {
  return has_kernels(x) && x.numel() > 0 && x.numel() <= kThinRows * x.size(-1) &&
         !(at::GradMode::is_enabled() && x.requires_grad());
}

bool thin_linear_serves(const at::Tensor& x, const at::Tensor& weight) {
  return thin_rows_serve(x) && has_kernels(x, weight) && weight.is_contiguous() &&
         !(at::GradMode::is_enabled() && weight.requires_grad());
}

std::vector<at::Tensor> thin_linears(const at::Tensor& given, const std::vector<at::Tensor>& weights) {
  const at::Tensor x = given.contiguous();
  const std::int64_t width = x.size(-1), count = x.numel() / width;
  // Blocks of four rows, as the kernel takes them, 128 KiB of float32 at a time.
  const std::int64_t part = 4 * std::max<std::int64_t>(1, 8192 / width);
  std::vector<at::Tensor> outs;
  std::vector<std::int64_t> parts_before{0};
  for (const at::Tensor& weight : weights) {
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = weight.size(0);
    outs.push_back(at::empty(shape, x.options()));
    parts_before.push_back(parts_before.back() + (weight.size(0) + part - 1) / part);
  }
  with_type(x, [&]<class T>(T*) {
    const T* in = x.const_data_ptr<T>();
    in_turns(parts_before.back(), [&](Turns& turns) {
      std::size_t i = 0;
      for (std::int64_t turn = 0; turns.take(turn);) {
        while (turn >= parts_before[i + 1]) ++i;
        const std::int64_t rows = weights[i].size(0), first = (turn - parts_before[i]) * part;
        kernel(in, count, weights[i].const_data_ptr<T>() + first * width, std::min(part, rows - first), width,
               outs[i].mutable_data_ptr<T>() + first, rows);
      }
    });
  });
  return outs;
}

at::Tensor thin_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  at::Tensor out = std::move(thin_linears(x, {weight}).front());
  return bias.defined() ? out.add_(bias) : out;
}

at::Tensor thin_linear(const at::Tensor& given, const RowSource& weight) {
  const at::Tensor x = given.contiguous();
  const std::int64_t width = x.size(-1), count = x.numel() / width;
  // Blocks of four rows, as the kernel takes them, that stay in a near cache between reading and use.
  const std::int64_t part = 4 * std::max<std::int64_t>(1, 4096 / width);
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = weight.rows;
  const at::Tensor out = at::empty(shape, x.options());
  const float* in = x.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  in_turns((weight.rows + part - 1) / part, [&](Turns& turns) {
    std::vector<float> room(static_cast<std::size_t>(part * width));
    for (std::int64_t turn = 0; turns.take(turn);) {
      const std::int64_t first = turn * part, some = std::min(part, weight.rows - first);
      weight.read(first, some, room.data());
      kernel<float>(in, count, room.data(), some, width, to + first, weight.rows);
    }
  });
  return out;
}

at::Tensor head_products(const at::Tensor& given, const at::Tensor& weight, std::int64_t kv_heads) {
  const std::int64_t in = given.size(2), out = weight.size(0) / kv_heads;
  return by_kv_head(given, out, kv_heads,
                    [&]<class T>(const T* x, std::int64_t group, std::int64_t j, const Piece& piece, T* y) {
                      const T* w = weight.const_data_ptr<T>() + (j * out + piece.first) * in;
                      kernel(x, group, w, piece.count, in, y, out);
                    });
}

at::Tensor head_sums(const at::Tensor& given, const at::Tensor& weight, std::int64_t kv_heads) {
  const std::int64_t in = given.size(2), out = weight.size(1);
  return by_kv_head(given, out, kv_heads,
                    [&]<class T>(const T* x, std::int64_t group, std::int64_t j, const Piece& piece, T* y) {
                      const T* w = weight.const_data_ptr<T>() + j * in * out + piece.first;
                      sum_kernel(x, group, in, w, out, piece.count, y);
                    });
}

at::Tensor linear_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return thin_linear_serves(x, weight) ? thin_linear(x, weight, bias) : dense_linear(x, weight, bias);
}

}  // namespace mla
