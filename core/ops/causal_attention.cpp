#include "core/ops/causal_attention.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "core/ops/vector_math.h"

// The BLAS that LibTorch brings; inside a loop over threads its products run on the caller's thread.
extern "C" {
void sgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k, const float* alpha,
            const float* a, const int* lda, const float* b, const int* ldb, const float* beta, float* c,
            const int* ldc);
void dgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k, const double* alpha,
            const double* a, const int* lda, const double* b, const int* ldb, const double* beta, double* c,
            const int* ldc);
}

namespace mla {
namespace {

/// Queries of one block: enough for matrix products to run at full speed, few enough to waste little above the
/// diagonal.
constexpr std::int64_t kBlock = 128;

template <class T>
MLA_INLINE T exponentials(T* row, std::int64_t count, T shift) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < count; ++j) {
    row[j] = vector_exp(row[j] - shift);
    sum += row[j];
  }
  return sum;
}
template <class T>
MLA_INLINE T largest(const T* row, std::int64_t count) {
  T most = row[0];
#pragma omp simd reduction(max : most)
  for (std::int64_t j = 0; j < count; ++j) most = row[j] > most ? row[j] : most;
  return most;
}
/// Logits to exp(logit - largest); returns the largest and the sum.
template <class T>
MLA_INLINE void softmax(T* row, std::int64_t count, T& most, T& sum) {
  most = largest(row, count);
  sum = exponentials(row, count, most);
}
/// Probabilities p = exp(logit - lse) in place of logits, and the logits' gradient p (dp - delta) scale in place of dp.
template <class T>
MLA_INLINE void gradient(T* row, T* drow, std::int64_t count, T lse, T delta, T scale) {
#pragma omp simd
  for (std::int64_t j = 0; j < count; ++j) {
    row[j] = vector_exp(row[j] - lse);
    drow[j] = row[j] * (drow[j] - delta) * scale;
  }
}
MLA_VECTORISED void softmax_kernel(float* row, std::int64_t count, float& most, float& sum) {
  softmax(row, count, most, sum);
}
MLA_VECTORISED void softmax_kernel(double* row, std::int64_t count, double& most, double& sum) {
  softmax(row, count, most, sum);
}
MLA_VECTORISED void gradient_kernel(float* row, float* drow, std::int64_t count, float lse, float delta, float scale) {
  gradient(row, drow, count, lse, delta, scale);
}
MLA_VECTORISED void gradient_kernel(double* row, double* drow, std::int64_t count, double lse, double delta,
                                    double scale) {
  gradient(row, drow, count, lse, delta, scale);
}

/// A matrix in memory, row after row.
template <class T>
struct Matrix {
  T* data;
  std::int64_t stride;
  bool transposed = false;
  Matrix t() const { return {data, stride, !transposed}; }
  Matrix rows_from(std::int64_t row) const { return {data + row * stride, stride, transposed}; }
};

/// c [rows, columns] = alpha a b + beta c, inner width `inner`.
template <class T>
void product(Matrix<const T> a, Matrix<const T> b, Matrix<T> c, std::int64_t rows, std::int64_t columns,
             std::int64_t inner, T alpha, T beta) {
  // BLAS counts columns first: the transposed product.
  const char *first = b.transposed ? "T" : "N", *second = a.transposed ? "T" : "N";
  const int m = static_cast<int>(columns), n = static_cast<int>(rows), k = static_cast<int>(inner);
  const int lda = static_cast<int>(b.stride), ldb = static_cast<int>(a.stride), ldc = static_cast<int>(c.stride);
  if constexpr (std::is_same_v<T, float>) {
    sgemm_(first, second, &m, &n, &k, &alpha, b.data, &lda, a.data, &ldb, &beta, c.data, &ldc);
  } else {
    dgemm_(first, second, &m, &n, &k, &alpha, b.data, &lda, a.data, &ldb, &beta, c.data, &ldc);
  }
}

template <class T>
Matrix<const T> head_of(const at::Tensor& x, std::int64_t batch, std::int64_t head) {
  return {x.const_data_ptr<T>() + batch * x.stride(0) + head * x.stride(1), x.stride(2)};
}
template <class T>
Matrix<T> writable_head(const at::Tensor& x, std::int64_t batch, std::int64_t head) {
  return {x.mutable_data_ptr<T>() + batch * x.stride(0) + head * x.stride(1), x.stride(2)};
}

/// Queries begin … end - 1 of one head, and the keys low … end - 1 that any of them sees.
struct Block {
  std::int64_t begin, end, low;
  const std::int64_t* first;  ///< of the sequence; may be null
  std::int64_t rows() const { return end - begin; }
  std::int64_t keys() const { return end - low; }
  std::int64_t first_key(std::int64_t row) const { return first ? first[begin + row] - low : 0; }
  std::int64_t visible(std::int64_t row) const { return begin + row + 1 - low - first_key(row); }
};

Block block_at(std::int64_t index, std::int64_t length, const std::int64_t* first) {
  Block block{index * kBlock, std::min(length, (index + 1) * kBlock), 0, first};
  if (first) block.low = *std::min_element(first + block.begin, first + block.end);
  return block;
}

/// Clears what a query does not see.
template <class T>
void clear_hidden(T* row, const Block& block, std::int64_t index) {
  std::fill(row, row + block.first_key(index), T(0));
  std::fill(row + block.first_key(index) + block.visible(index), row + block.keys(), T(0));
}

/// Inputs, result and the logarithm of each query's softmax denominator.
struct Tensors {
  at::Tensor q, k, v, out, lse, first;
  std::int64_t group() const { return q.size(1) / k.size(1); }
  const std::int64_t* first_of(std::int64_t batch) const {
    return first.defined() ? first.const_data_ptr<std::int64_t>() + batch * first.size(1) : nullptr;
  }
};

template <class T>
void forward_block(const Tensors& t, std::int64_t batch, std::int64_t head, const Block& block, T scale, T* logits) {
  const std::int64_t rows = block.rows(), keys = block.keys(), width = t.q.size(3), value_width = t.v.size(3);
  const std::int64_t kv_head = head / t.group();
  const Matrix<T> scores{logits, keys}, out = writable_head<T>(t.out, batch, head).rows_from(block.begin);
  product<T>(head_of<T>(t.q, batch, head).rows_from(block.begin),
             head_of<T>(t.k, batch, kv_head).rows_from(block.low).t(), scores, rows, keys, width, scale, 0);
  T* lse = t.lse.mutable_data_ptr<T>() + (batch * t.q.size(1) + head) * t.q.size(2) + block.begin;
  std::array<T, kBlock> sums;
  for (std::int64_t row = 0; row < rows; ++row) {
    T* line = logits + row * keys;
    T most = 0;
    softmax_kernel(line + block.first_key(row), block.visible(row), most, sums[static_cast<std::size_t>(row)]);
    clear_hidden(line, block, row);
    lse[row] = most + std::log(sums[static_cast<std::size_t>(row)]);
  }
  product<T>({logits, keys}, head_of<T>(t.v, batch, kv_head).rows_from(block.low), out, rows, value_width, keys, 1, 0);
  for (std::int64_t row = 0; row < rows; ++row) {
    T* line = out.data + row * out.stride;
    const T factor = 1 / sums[static_cast<std::size_t>(row)];
    for (std::int64_t i = 0; i < value_width; ++i) line[i] *= factor;
  }
}

template <class T>
void forward_all(const Tensors& t, double scale) {
  const std::int64_t heads = t.q.size(1), length = t.q.size(2), blocks = (length + kBlock - 1) / kBlock;
  at::parallel_for(0, t.q.size(0) * heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::unique_ptr<T[]> logits(new T[static_cast<std::size_t>(std::min(kBlock, length) * length)]);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t batch = i / (heads * blocks), head = i / blocks % heads;
      forward_block(t, batch, head, block_at(i % blocks, length, t.first_of(batch)), static_cast<T>(scale),
                    logits.get());
    }
  });
}

/// Gradients; dk and dv have one entry for each query head.
struct Gradients {
  at::Tensor dout, dq, dk, dv;
};

template <class T>
T dot(const T* a, const T* b, std::int64_t count) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

template <class T>
void backward_block(const Tensors& t, const Gradients& g, std::int64_t batch, std::int64_t head, const Block& block,
                    T scale, T* logits, T* dlogits) {
  const std::int64_t rows = block.rows(), keys = block.keys(), width = t.q.size(3), value_width = t.v.size(3);
  const std::int64_t kv_head = head / t.group();
  const Matrix<const T> q = head_of<T>(t.q, batch, head).rows_from(block.begin),
                        k = head_of<T>(t.k, batch, kv_head).rows_from(block.low),
                        v = head_of<T>(t.v, batch, kv_head).rows_from(block.low),
                        out = head_of<T>(t.out, batch, head).rows_from(block.begin),
                        dout = head_of<T>(g.dout, batch, head).rows_from(block.begin), p{logits, keys},
                        dp{dlogits, keys};
  product<T>(q, k.t(), {logits, keys}, rows, keys, width, scale, 0);
  product<T>(dout, v.t(), {dlogits, keys}, rows, keys, value_width, 1, 0);
  const T* lse = t.lse.const_data_ptr<T>() + (batch * t.q.size(1) + head) * t.q.size(2) + block.begin;
  for (std::int64_t row = 0; row < rows; ++row) {
    T *line = logits + row * keys, *dline = dlogits + row * keys;
    const T delta = dot(out.data + row * out.stride, dout.data + row * dout.stride, value_width);
    gradient_kernel(line + block.first_key(row), dline + block.first_key(row), block.visible(row), lse[row], delta,
                    scale);
    clear_hidden(line, block, row);
    clear_hidden(dline, block, row);
  }
  product<T>(p.t(), dout, writable_head<T>(g.dv, batch, head).rows_from(block.low), keys, value_width, rows, 1, 1);
  product<T>(dp, k, writable_head<T>(g.dq, batch, head).rows_from(block.begin), rows, width, keys, 1, 0);
  product<T>(dp.t(), q, writable_head<T>(g.dk, batch, head).rows_from(block.low), keys, width, rows, 1, 1);
}

template <class T>
void backward_all(const Tensors& t, const Gradients& g, double scale) {
  const std::int64_t heads = t.q.size(1), length = t.q.size(2), blocks = (length + kBlock - 1) / kBlock;
  at::parallel_for(0, t.q.size(0) * heads, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::size_t room = static_cast<std::size_t>(std::min(kBlock, length) * length);
    const std::unique_ptr<T[]> logits(new T[room]), dlogits(new T[room]);
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t block = 0; block < blocks; ++block) {
        backward_block(t, g, i / heads, i % heads, block_at(block, length, t.first_of(i / heads)),
                       static_cast<T>(scale), logits.get(), dlogits.get());
      }
    }
  });
}

/// [batch, heads, length, width], in memory [batch, length, heads, width].
at::Tensor heads_like(const at::Tensor& x, std::int64_t heads, bool zero) {
  const std::vector<std::int64_t> shape{x.size(0), x.size(2), heads, x.size(3)};
  const at::TensorOptions options = x.options().requires_grad(false);
  return (zero ? at::zeros(shape, options) : at::empty(shape, options)).transpose(1, 2);
}

at::Tensor sum_groups(const at::Tensor& x, std::int64_t group) {
  return group == 1 ? x : x.transpose(1, 2).unflatten(2, {x.size(1) / group, group}).sum(3).transpose(1, 2);
}

struct CausalAttention : torch::autograd::Function<CausalAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, double scale, const std::optional<at::Tensor>& first) {
    const Tensors t{q,
                    k,
                    v,
                    heads_like(v, q.size(1), false),
                    at::empty({q.size(0), q.size(1), q.size(2)}, q.options().requires_grad(false)),
                    first.value_or(at::Tensor())};
    with_type(q, [&]<class T>(T*) { forward_all<T>(t, scale); });
    context->save_for_backward({q, k, v, t.out, t.lse, t.first});
    context->saved_data["scale"] = scale;
    return t.out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensors t{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5]};
    const std::int64_t heads = t.q.size(1);
    const Gradients g{gradients[0].stride(3) == 1 ? gradients[0] : gradients[0].contiguous(),
                      heads_like(t.q, heads, false), heads_like(t.k, heads, true), heads_like(t.v, heads, true)};
    with_type(t.q, [&]<class T>(T*) { backward_all<T>(t, g, context->saved_data["scale"].toDouble()); });
    return {g.dq, sum_groups(g.dk, t.group()), sum_groups(g.dv, t.group()), at::Tensor(), at::Tensor()};
  }
};

at::Tensor dense_rows(const at::Tensor& x) { return x.stride(3) == 1 ? x : x.contiguous(); }

}  // namespace

at::Tensor causal_self_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                 const at::Tensor& first) {
  std::optional<at::Tensor> given;  // autograd takes no undefined tensor
  if (first.defined()) given = first.contiguous();
  return CausalAttention::apply(dense_rows(q), dense_rows(k), dense_rows(v), scale, given);
}

}  // namespace mla
