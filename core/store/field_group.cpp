#include "core/store/field_group.h"

namespace mla {

AttributeValue attribute_from_json(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json json_from_attribute(const AttributeValue& value) {
  return std::visit([](const auto& held) { return Json(held); }, value);
}

NdArray<std::int64_t> matrix_from_rows(const std::vector<std::vector<std::int64_t>>& rows) {
  NdArray<std::int64_t> matrix{{rows.size(), rows.empty() ? 0 : rows.front().size()}, {}};
  for (const auto& row : rows) {
    expects(row.size() == matrix.shape[1], "the rows of a matrix differ in length");
    matrix.values.insert(matrix.values.end(), row.begin(), row.end());
  }
  return matrix;
}

std::vector<std::vector<std::int64_t>> rows_from_matrix(const NdArray<std::int64_t>& matrix, const std::string& place) {
  if (matrix.shape.size() != 2) throw DataError(cat(place, ": expected 2 dimensions, found ", matrix.shape.size()));
  // Rows without columns take room, too, and a product of extents may wrap around.
  constexpr std::size_t kMostRows = std::size_t{1} << 24;
  const std::size_t columns = matrix.shape[1];
  if (matrix.shape[0] > kMostRows || (columns > 0 && matrix.values.size() / columns != matrix.shape[0]))
    throw DataError(cat(place, ": ", matrix.shape[0], " x ", columns, " is more than a record holds"));
  std::vector<std::vector<std::int64_t>> rows;
  auto at = matrix.values.begin();
  for (std::size_t row = 0; row < matrix.shape[0]; ++row) {
    const auto end = at + static_cast<std::ptrdiff_t>(matrix.shape[1]);
    rows.emplace_back(at, end);
    at = end;
  }
  return rows;
}

}  // namespace mla
