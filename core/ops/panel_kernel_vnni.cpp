// AVX-512 with the products of four bytes (VNNI).
#include "core/ops/panel_kernel.h"
#include "core/ops/panel_layout.h"
#include "core/ops/vector_math.h"

#if MLA_GCC_ON_X86
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,avx512vnni,prefer-vector-width=512")
#include "core/ops/panel_kernel_body.h"
#include "core/ops/panel_lanes_512.h"

namespace mla {
namespace {

struct VnniLanes : WideLanes {
  template <bool LARGE>
  static Ints dot(Ints sum, Bytes codes, const std::int8_t* four) {
    return _mm512_dpbusd_epi32(sum, codes, broadcast_four(four));
  }
};

}  // namespace

void vnni_panels(const PanelTask& task) { panels_of_kind<VnniLanes, 8>(task); }

}  // namespace mla
#pragma GCC pop_options
#else
namespace mla {
void vnni_panels(const PanelTask& task) { plain_panels(task); }
}  // namespace mla
#endif
