#include "core/ops/panel_product.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <limits>

#include "core/base/error.h"
#include "core/ops/panel_kernel.h"
#include "core/ops/rounded_rows.h"
#include "core/ops/vector_math.h"

namespace mla {
namespace {

bool has_avx2() {
#if MLA_GCC_ON_X86
  return __builtin_cpu_supports("x86-64-v3");
#else
  return false;
#endif
}
bool has_vnni() {
#if MLA_GCC_ON_X86
  return has_avx512() && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

PanelKernel best_kernel() {
  static const PanelKernel best = panel_kernels().back();
  return best;
}

void run_kernel(PanelKernel kernel, const PanelTask& task) {
  switch (kernel) {
    case PanelKernel::kPlain:
      return plain_panels(task);
    case PanelKernel::kAvx2:
      return avx2_panels(task);
    case PanelKernel::kAvx512:
      return avx512_panels(task);
    case PanelKernel::kVnni:
      return vnni_panels(task);
  }
}

/// Rows of x beyond which a product with the decoded matrix is faster, decoding included.
std::int64_t most_rows(PanelKernel kernel) {
  switch (kernel) {
    case PanelKernel::kVnni:
      return std::numeric_limits<std::int64_t>::max() >> 20;
    case PanelKernel::kAvx512:
    case PanelKernel::kAvx2:
      return 256;
    case PanelKernel::kPlain:
      break;
  }
  return 4;
}

/// Bytes of a matrix that a thread takes at a time: they stay near for all rows of x.
constexpr std::int64_t kPartBytes = 1 << 16;

std::int64_t panels_of_part(const PanelMatrix& matrix) {
  return std::max<std::int64_t>(1, kPartBytes / (matrix.panels.size(1) * matrix.panels.size(2)));
}

/// Part `part` of a matrix.
PanelTask task_of(const RoundedRows& x, const PanelMatrix& matrix, std::int64_t part, float* out) {
  const std::int64_t some = panels_of_part(matrix), first = part * some, count = matrix.panels.size(0);
  return {x.codes.data(),
          x.scales.data(),
          x.offsets.data(),
          x.sums.data(),
          x.rows,
          x.groups,
          matrix.format->kind,
          matrix.panels.const_data_ptr<std::uint8_t>() + first * matrix.panels.size(1) * matrix.panels.size(2),
          std::min(some, count - first),
          matrix.rows - first * kPanelRows,
          out + first * kPanelRows,
          matrix.rows};
}

}  // namespace

std::vector<PanelKernel> panel_kernels() {
  std::vector<PanelKernel> all{PanelKernel::kPlain};
  if (has_avx2()) all.push_back(PanelKernel::kAvx2);
  if (has_avx512()) all.push_back(PanelKernel::kAvx512);
  if (has_vnni()) all.push_back(PanelKernel::kVnni);
  return all;
}

bool rounds_for_panels(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat && x.numel() > 0 && !(at::GradMode::is_enabled() && x.requires_grad());
}

bool has_panel_kernels(const at::Tensor& x, const at::Device& matrix) {
  return has_kernels(x) && matrix.is_cpu() && x.numel() <= most_rows(best_kernel()) * x.size(-1);
}

std::vector<at::Tensor> panel_products(const at::Tensor& x, const std::vector<PanelMatrix>& matrices) {
  return panel_products(x, matrices, best_kernel());
}

std::vector<at::Tensor> panel_products(const at::Tensor& given, const std::vector<PanelMatrix>& matrices,
                                       PanelKernel kernel) {
  const at::Tensor x = given.contiguous();
  const RoundedRows rounded = round_rows(x);
  std::vector<at::Tensor> outs;
  std::vector<std::int64_t> parts_before{0};
  for (const PanelMatrix& matrix : matrices) {
    expects(matrix.columns == x.size(-1), "columns of matrices are those of x");
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = matrix.rows;
    outs.push_back(at::empty(shape, x.options()));
    const std::int64_t some = panels_of_part(matrix);
    parts_before.push_back(parts_before.back() + (matrix.panels.size(0) + some - 1) / some);
  }
  in_turns(parts_before.back(), [&](Turns& turns) {
    std::size_t i = 0;
    for (std::int64_t turn = 0; turns.take(turn);) {
      while (turn >= parts_before[i + 1]) ++i;
      run_kernel(kernel, task_of(rounded, matrices[i], turn - parts_before[i], outs[i].mutable_data_ptr<float>()));
    }
  });
  return outs;
}

}  // namespace mla
