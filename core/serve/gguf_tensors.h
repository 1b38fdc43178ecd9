// Tensors of a model in the element types of GGUF files.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/gguf/writer.h"

namespace mla {

/// "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1": the types that matrices are written in.
const std::vector<std::string>& written_gguf_types();

/// The number that llama.cpp gives a file whose matrices are mostly of this type (general.file_type).
std::uint32_t gguf_file_type(const std::string& type);

/// Gives the bytes of `values` in `type` to `put`, some rows at a time: the bytes that ggml's reference quantizers
/// make. `name` stands in errors. Throws DataError for numbers that the type cannot hold.
void put_gguf_values(const at::Tensor& values, const gguf::ElementType& type, const std::string& name,
                     const gguf::PutBytes& put);

/// Makes a tensor when it is written.
using MakeTensor = std::function<at::Tensor()>;

/// Adds a model's tensors to a file, its matrices in one type.
class GgufTensors {
 public:
  /// `type` is one of written_gguf_types(); `writer` must live as long.
  GgufTensors(gguf::Writer& writer, const std::string& type);

  /// A norm's weight, a bias, factors of rotation: float32.
  void plain(const std::string& name, std::vector<std::int64_t> shape, MakeTensor source);
  /// A matrix, or one for each head, in the type; float16 where rows are no whole blocks of it.
  void matrix(const std::string& name, std::vector<std::int64_t> shape, MakeTensor source);
  /// The embedding and the output matrix, which four bits would hurt most: Q8_0 then, as llama.cpp keeps them wider.
  void vocabulary_matrix(const std::string& name, std::vector<std::int64_t> shape, MakeTensor source);
  /// A small matrix with rows of very different sizes, for which halves have no numbers and blocks no codes: float32.
  void uneven_matrix(const std::string& name, std::vector<std::int64_t> shape, MakeTensor source);

  /// Names of matrices that are float16 since their rows are no whole blocks.
  const std::vector<std::string>& without_blocks() const { return without_blocks_; }

 private:
  bool has_blocks() const { return type_.block > 1; }
  void add(const std::string& name, std::vector<std::int64_t> shape, const gguf::ElementType& type, MakeTensor source);

  gguf::Writer& writer_;
  const gguf::ElementType& type_;
  const gguf::ElementType& half_;
  std::vector<std::string> without_blocks_;
};

}  // namespace mla
