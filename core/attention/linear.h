// The linear maps that models are made of, and the weights of a layer by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace mla {

/// Tensors by the names of their parameters.
using TensorMap = std::map<std::string, at::Tensor>;

/// y = x W^T + b with W [rows, columns] and b [rows], either of which may be missing: a map without a matrix stands for
/// one that its layer does not have, and may still carry a bias. Everything that multiplies with weights goes through
/// here; who needs the matrix itself asks for it. Weights stored in a narrower dtype are widened to x's for the
/// product.
class Linear {
 public:
  Linear() = default;
  explicit Linear(at::Tensor weight) : weight_(std::move(weight)) {}
  Linear(at::Tensor weight, at::Tensor bias) : weight_(std::move(weight)), bias_(std::move(bias)) {}

  /// Whether there is a matrix.
  bool defined() const { return weight_.defined(); }
  std::int64_t rows() const { return weight_.size(0); }
  std::int64_t columns() const { return weight_.size(1); }

  /// x [..., columns] -> [..., rows].
  at::Tensor operator()(const at::Tensor& x) const;

  /// The matrix in the dtype it is held in, for conversions: not a copy. Undefined where there is none.
  at::Tensor to_dense() const { return weight_; }
  /// The matrix in x's dtype, for products.
  at::Tensor matrix_for(const at::Tensor& x) const;
  /// Rows of the matrix by their numbers `ids` (int64, any shape): [..., columns].
  at::Tensor rows_at(const at::Tensor& ids) const;

  const at::Tensor& bias() const { return bias_; }

  /// Of the matrix.
  at::Device device() const { return weight_.device(); }
  at::ScalarType scalar_type() const { return weight_.scalar_type(); }
  at::TensorOptions options() const { return weight_.options().requires_grad(false); }
  /// The tensor that collects the matrix's gradient; undefined where none is wanted.
  at::Tensor trained() const { return defined() && weight_.requires_grad() ? weight_ : at::Tensor(); }

  /// Elements of matrix and bias.
  std::int64_t parameters() const;

  /// Calls `visit` for each parameter that can be trained: NAME.weight and NAME.bias. The tensor may be replaced by one
  /// of the same shape.
  void visit(const std::string& name, const std::function<void(const std::string&, at::Tensor&)>& visit);
  Linear clone() const;

 private:
  at::Tensor weight_, bias_;
};

/// The products of several maps with the same x, in their order; faster than one by one where x has few rows.
std::vector<at::Tensor> project_together(const std::vector<const Linear*>& maps, const at::Tensor& x);

/// `tensor` in x's dtype; itself when it already is.
at::Tensor matching(const at::Tensor& tensor, const at::Tensor& x);

/// What is called for each weight of a layer or model: linear maps as a whole by their names without ".weight", and the
/// tensors that are no part of one. Both may be replaced by what has the same shape.
struct WeightVisitor {
  std::function<void(const std::string& name, Linear& map)> map;
  std::function<void(const std::string& name, at::Tensor& tensor)> tensor;
};

/// A visitor of linear maps' trainable parameters and of all other tensors, by the names of files.
WeightVisitor each_parameter(const std::function<void(const std::string&, at::Tensor&)>& visit);

/// The weights that a layer is built from, by name.
class LayerWeights {
 public:
  void add(const std::string& name, Linear map) { maps_.insert_or_assign(name, std::move(map)); }
  void add(const std::string& name, at::Tensor tensor) { tensors_.insert_or_assign(name, std::move(tensor)); }

  /// Takes the map or tensor of this name; one that is not there is undefined.
  Linear map(const std::string& name);
  at::Tensor tensor(const std::string& name);

 private:
  std::map<std::string, Linear> maps_;
  TensorMap tensors_;
};

}  // namespace mla
