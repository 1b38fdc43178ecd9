// How the matrix of a linear map is held, where it is not one dense tensor.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/ops/panel_product.h"
#include "core/ops/thin_linear.h"

namespace mla {

struct MatrixShape {
  std::int64_t rows = 0, columns = 0;
};

/// One tensor of a stored matrix. Files hold it as NAME.part, after the linear map's name.
struct StoredPart {
  std::string name;
  std::vector<std::int64_t> shape;
  std::optional<at::ScalarType> type;  ///< absent: any floating type, as the tensor itself has it
};

/// A form of storage that is registered, with fields of its own that config.json states. Immutable, and shared by
/// copies of a model's description. A new form is one file.
class WeightStorage {
 public:
  static constexpr const char* kKind = "weight_storage";
  virtual ~WeightStorage() = default;

  /// The registered name, and all fields, as config.json states them.
  virtual std::string kind() const = 0;
  virtual Json fields() const = 0;

  /// In a few words, for people: "4-bit rtn codes".
  virtual std::string description() const = 0;

  /// Throws ConfigError, "WHERE…: what is wrong", for a matrix that cannot be held so.
  virtual void check(const MatrixShape& shape, const std::string& where) const = 0;

  /// The tensors that hold a matrix, in the order of files.
  virtual std::vector<StoredPart> parts(const MatrixShape& shape) const = 0;

  /// Throws DataError, "WHERE: what is wrong", for parts that stand for no finite numbers.
  virtual void expect_valid(const std::vector<at::Tensor>& parts, const MatrixShape& shape,
                            const std::string& where) const = 0;

  /// The matrix [rows, columns] in a floating type.
  virtual at::Tensor dense(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const = 0;

  /// Rows of it, [numbers, columns], by their numbers, int64 [numbers].
  virtual at::Tensor rows(const std::vector<at::Tensor>& parts, const MatrixShape& shape,
                          const at::Tensor& numbers) const;

  /// Whether the parts are factors: then they are parameters that can be trained, and multiply() goes through them
  /// one by one. Otherwise the product is that with the dense matrix, whose elements are the parameters.
  virtual bool is_factored() const { return false; }

  /// Whether it holds a published model's own weights, of which a conversion takes the matrix and leaves a dense one.
  virtual bool is_converted_from() const { return false; }

  /// x W^T in x's dtype: [..., columns] -> [..., rows]. Asked for where is_factored().
  virtual at::Tensor multiply(const std::vector<at::Tensor>& parts, const at::Tensor& x) const;

  /// Its rows in float32, some at a time, for products with few rows; absent where the whole matrix is made at once.
  virtual std::optional<RowSource> row_source(const std::vector<at::Tensor>& /*parts*/,
                                              const MatrixShape& /*shape*/) const {
    return {};
  }

  /// The matrix as products read it where it lies, of a form that they know: its product is then that of
  /// core/ops/panel_product.h.
  virtual std::optional<PanelMatrix> panels(const std::vector<at::Tensor>& /*parts*/,
                                            const MatrixShape& /*shape*/) const {
    return {};
  }
};

/// Elements that count as parameters of a matrix held so, and bytes of its parts; parts of any floating type count as
/// elements of `floating`.
std::int64_t parameters_of(const WeightStorage& storage, const MatrixShape& shape);
std::int64_t bytes_of(const WeightStorage& storage, const MatrixShape& shape, at::ScalarType floating);

/// The storage of one linear map as a value: null for a dense one. Equal where kinds and fields are.
struct MapStorage {
  std::shared_ptr<const WeightStorage> form;
  bool operator==(const MapStorage& other) const;
};
/// Those of the linear maps that are not dense, by the maps' names.
using StorageMap = std::map<std::string, MapStorage>;

}  // namespace mla
