#include "core/ops/packed_heads.h"

namespace mla {

MLA_VECTORISED void pack_kernel(const HeadRows<const float>& from, std::int64_t count, float scale,
                                std::int64_t to_width, float* to) {
  pack_rows(from, count, scale, to_width, to);
}
MLA_VECTORISED void pack_kernel(const HeadRows<const double>& from, std::int64_t count, double scale,
                                std::int64_t to_width, double* to) {
  pack_rows(from, count, scale, to_width, to);
}

MLA_VECTORISED void panels_kernel(const HeadRows<const float>& from, std::int64_t count, float* to) {
  pack_panels(from, count, to);
}
MLA_VECTORISED void panels_kernel(const HeadRows<const double>& from, std::int64_t count, double* to) {
  pack_panels(from, count, to);
}

}  // namespace mla
