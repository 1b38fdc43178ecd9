#include "core/ops/unpack_matrix.h"

#include <vector>

#include "core/ops/unpack_rows.h"
#include "core/ops/vector_math.h"

namespace mla {
namespace {

MLA_VECTORISED void unpack_narrow(const PackedSpan& span, std::int64_t first, std::int64_t count, std::int64_t width,
                                  float* table, float* out) {
  unpack_span<32>(span, 0, first, count, width, table, out);
}
MLA_AVX512 void unpack_wide(const PackedSpan& span, std::int64_t first, std::int64_t count, std::int64_t width,
                            float* table, float* out) {
  unpack_span<64>(span, 0, first, count, width, table, out);
}

}  // namespace

void unpack_matrix_rows(const PackedSpan& span, std::int64_t first, std::int64_t count, std::int64_t width,
                        float* out) {
  std::vector<float> table(span.across_tokens ? static_cast<std::size_t>(2 * width) : 0);
  (has_avx512() ? unpack_wide : unpack_narrow)(span, first, count, width, table.data(), out);
}

}  // namespace mla
