// The linear maps that models are made of, and the weights of a layer by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/attention/weight_storage.h"

namespace mla {

/// Tensors by the names of their parameters.
using TensorMap = std::map<std::string, at::Tensor>;

/// `tensor` in x's dtype; itself when it already is.
at::Tensor matching(const at::Tensor& tensor, const at::Tensor& x);

/// y = x W^T + b with W [rows, columns] and b [rows], either of which may be missing: a map without a matrix stands for
/// one that its layer does not have, and may still carry a bias. The matrix is dense in any dtype, widened to x's for
/// the product, or held as a WeightStorage says. Everything that multiplies with weights goes through here; who needs
/// the matrix itself asks for it.
class Linear {
 public:
  Linear() = default;
  explicit Linear(at::Tensor weight) : weight_(std::move(weight)) {}
  Linear(at::Tensor weight, at::Tensor bias) : weight_(std::move(weight)), bias_(std::move(bias)) {}
  /// `parts` are those that the storage states for a matrix of this shape.
  Linear(std::shared_ptr<const WeightStorage> storage, MatrixShape shape, std::vector<at::Tensor> parts,
         at::Tensor bias);

  /// Whether there is a matrix.
  bool defined() const { return weight_.defined() || storage_; }
  std::int64_t rows() const { return storage_ ? shape_.rows : weight_.size(0); }
  std::int64_t columns() const { return storage_ ? shape_.columns : weight_.size(1); }

  /// How the matrix is held; null: dense.
  const std::shared_ptr<const WeightStorage>& storage() const { return storage_; }
  /// Whether the matrix is the product of factors, by which x is multiplied one after the other.
  bool is_factored() const { return storage_ && storage_->is_factored(); }

  /// x [..., columns] -> [..., rows].
  at::Tensor operator()(const at::Tensor& x) const;
  /// Whether its product with x is that of codes, which rounds x (core/ops/panel_product.h), and not one with the dense
  /// matrix or with factors.
  bool multiplies_codes(const at::Tensor& x) const;
  /// Whether its product with x decodes a few rows of the matrix at a time: to the bit what the whole one gives.
  bool decodes_by_rows(const at::Tensor& x) const;

  /// The matrix, for conversions: a dense one as it is held, not a copy; others made for the asker. Undefined where
  /// there is none.
  at::Tensor to_dense() const { return storage_ ? storage_->dense(parts_, shape_) : weight_; }
  /// The matrix in x's dtype, for products.
  at::Tensor matrix_for(const at::Tensor& x) const { return matching(to_dense(), x); }
  /// Rows of the matrix by their numbers `ids` (int64, any shape): [..., columns].
  at::Tensor rows_at(const at::Tensor& ids) const;

  const at::Tensor& bias() const { return bias_; }

  /// Where the matrix lies, and the type that to_dense() has.
  at::Device device() const { return first().device(); }
  at::ScalarType scalar_type() const;
  at::TensorOptions options() const { return first().options().dtype(scalar_type()).requires_grad(false); }
  /// The tensor that collects the gradient of a dense matrix; undefined where none is wanted.
  at::Tensor trained() const { return weight_.defined() && weight_.requires_grad() ? weight_ : at::Tensor(); }

  /// Elements of matrix and bias, whatever holds them; a matrix of factors has those of its factors.
  std::int64_t parameters() const;
  /// Bytes of everything that is held, counted in the buffers.
  std::int64_t bytes() const;

  /// Calls `visit` for each parameter that can be trained: NAME.weight or factors, and NAME.bias. Codes are none. The
  /// tensor may be replaced by one of the same shape.
  void visit(const std::string& name, const std::function<void(const std::string&, at::Tensor&)>& visit);
  /// Likewise for each tensor that is held, as files hold them: codes and scales among them.
  void visit_stored(const std::string& name, const std::function<void(const std::string&, at::Tensor&)>& visit);
  Linear clone() const;

 private:
  friend std::vector<at::Tensor> project_together(const std::vector<const Linear*>& maps, const at::Tensor& x);
  const at::Tensor& first() const { return storage_ ? parts_.front() : weight_; }
  PanelMatrix panels() const { return *storage_->panels(parts_, shape_); }

  at::Tensor weight_, bias_;
  std::shared_ptr<const WeightStorage> storage_;
  MatrixShape shape_;
  std::vector<at::Tensor> parts_;
};

/// The products of several maps with the same x, in their order; faster than one by one where x has few rows.
std::vector<at::Tensor> project_together(const std::vector<const Linear*>& maps, const at::Tensor& x);

/// What is called for each weight of a layer or model: linear maps as a whole by their names without ".weight", and the
/// tensors that are no part of one. Both may be replaced by what has the same shape.
struct WeightVisitor {
  std::function<void(const std::string& name, Linear& map)> map;
  std::function<void(const std::string& name, at::Tensor& tensor)> tensor;
};

/// A visitor of linear maps' trainable parameters and of all other tensors, by the names of files.
WeightVisitor each_parameter(const std::function<void(const std::string&, at::Tensor&)>& visit);
/// Likewise of every tensor that is held.
WeightVisitor each_stored(const std::function<void(const std::string&, at::Tensor&)>& visit);

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
