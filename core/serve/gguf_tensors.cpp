#include "core/serve/gguf_tensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/ops/encode_blocks.h"

namespace mla {
namespace {

/// Numbers that are encoded at a time: some megabytes.
constexpr std::int64_t kNumbersAtOnce = std::int64_t{1} << 22;

struct WrittenType {
  const char* name;
  std::uint32_t file_type;
};
constexpr std::array<WrittenType, 6> kWrittenTypes = {
    {{"F32", 0}, {"F16", 1}, {"BF16", 32}, {"Q8_0", 7}, {"Q4_0", 2}, {"Q4_1", 3}}};

const gguf::ElementType& known_type(std::string_view name) {
  const gguf::ElementType* type = gguf::find_element_type(name);
  expects(type != nullptr, "a type of GGUF files");
  return *type;
}

at::Tensor as_numbers(const at::Tensor& rows, at::ScalarType type) {
  at::Tensor numbers = rows.to(type).contiguous();
  if (!at::isfinite(numbers).all().item<bool>())
    throw DataError(cat("holds numbers that ", at::toString(type), " does not"));
  return numbers;
}

/// Rows [rows, columns] of float32.
at::Tensor encoded(const at::Tensor& rows, const gguf::ElementType& type) {
  const std::string_view name = type.name;
  if (name == "F32") return as_numbers(rows, at::kFloat);
  if (name == "F16") return as_numbers(rows, at::kHalf);
  if (name == "BF16") return as_numbers(rows, at::kBFloat16);
  return encode_blocks(*find_block_format(type.name), rows.contiguous());
}

}  // namespace

const std::vector<std::string>& written_gguf_types() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const WrittenType& type : kWrittenTypes) all.emplace_back(type.name);
    return all;
  }();
  return names;
}

std::uint32_t gguf_file_type(const std::string& type) {
  const auto* found =
      std::find_if(kWrittenTypes.begin(), kWrittenTypes.end(), [&](const auto& one) { return type == one.name; });
  expects(found != kWrittenTypes.end(), "a type that is written");
  return found->file_type;
}

void put_gguf_values(const at::Tensor& values, const gguf::ElementType& type, const std::string& name,
                     const gguf::PutBytes& put) {
  const std::int64_t columns = values.size(-1);
  const at::Tensor rows = values.detach().to(at::kCPU).reshape({-1, columns});
  const std::int64_t step = std::max<std::int64_t>(1, kNumbersAtOnce / columns);
  for (std::int64_t begin = 0; begin < rows.size(0); begin += step) {
    const at::Tensor part = rows.narrow(0, begin, std::min(step, rows.size(0) - begin)).to(at::kFloat);
    try {
      const at::Tensor bytes = encoded(part, type);
      put(bytes.const_data_ptr(), bytes.nbytes());
    } catch (const DataError& error) {
      throw DataError(cat("tensor ", name, ": ", error.what(), "; F32 and BF16 hold every weight"));
    }
  }
}

GgufTensors::GgufTensors(gguf::Writer& writer, const std::string& type)
    : writer_(writer), type_(known_type(type)), half_(known_type("F16")) {}

void GgufTensors::add(const std::string& name, std::vector<std::int64_t> shape, const gguf::ElementType& type,
                      MakeTensor source) {
  writer_.tensor(name, shape, type, [name, shape, &type, source = std::move(source)](const gguf::PutBytes& put) {
    const at::Tensor values = source();
    expects(values.sizes().vec() == shape, "a tensor has the shape that was told");
    put_gguf_values(values, type, name, put);
  });
}

void GgufTensors::plain(const std::string& name, std::vector<std::int64_t> shape, MakeTensor source) {
  add(name, std::move(shape), known_type("F32"), std::move(source));
}

void GgufTensors::matrix(const std::string& name, std::vector<std::int64_t> shape, MakeTensor source) {
  const bool whole = shape.back() % type_.block == 0;
  if (!whole) without_blocks_.push_back(name);
  add(name, std::move(shape), whole ? type_ : half_, std::move(source));
}

void GgufTensors::vocabulary_matrix(const std::string& name, std::vector<std::int64_t> shape, MakeTensor source) {
  const gguf::ElementType& eight = known_type("Q8_0");
  if (!has_blocks() || shape.back() % eight.block != 0) return matrix(name, std::move(shape), std::move(source));
  add(name, std::move(shape), eight, std::move(source));
}

void GgufTensors::uneven_matrix(const std::string& name, std::vector<std::int64_t> shape, MakeTensor source) {
  plain(name, std::move(shape), std::move(source));
}

}  // namespace mla
