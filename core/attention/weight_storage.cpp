#include "core/attention/weight_storage.h"

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace mla {

at::Tensor WeightStorage::rows(const std::vector<at::Tensor>& parts, const MatrixShape& shape,
                               const at::Tensor& numbers) const {
  return dense(parts, shape).index_select(0, numbers);
}

at::Tensor WeightStorage::multiply(const std::vector<at::Tensor>&, const at::Tensor&) const {
  throw std::logic_error("a storage of factors multiplies with them");
}

std::int64_t parameters_of(const WeightStorage& storage, const MatrixShape& shape) {
  if (!storage.is_factored()) return shape.rows * shape.columns;
  // Codes among the parts stand for a whole matrix, beside factors that are parameters themselves.
  std::int64_t count = 0;
  bool codes = false;
  for (const StoredPart& part : storage.parts(shape)) {
    std::int64_t size = part.type ? 0 : 1;
    for (const std::int64_t extent : part.shape) size *= extent;
    count += size;
    codes = codes || part.type;
  }
  return codes ? count + shape.rows * shape.columns : count;
}

std::int64_t bytes_of(const WeightStorage& storage, const MatrixShape& shape, at::ScalarType floating) {
  std::int64_t bytes = 0;
  for (const StoredPart& part : storage.parts(shape)) {
    std::int64_t size = static_cast<std::int64_t>(c10::elementSize(part.type.value_or(floating)));
    for (const std::int64_t extent : part.shape) size *= extent;
    bytes += size;
  }
  return bytes;
}

bool MapStorage::operator==(const MapStorage& other) const {
  if (form == other.form) return true;
  return form && other.form && form->kind() == other.form->kind() && form->fields() == other.form->fields();
}

}  // namespace mla
