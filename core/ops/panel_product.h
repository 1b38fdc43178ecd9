// Products of rows with matrices that are held as blocks of codes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/ops/block_panels.h"

namespace mla {

/// A matrix [rows, columns] as to_panels() gives it.
struct PanelMatrix {
  const BlockFormat* format = nullptr;
  at::Tensor panels;
  std::int64_t rows = 0, columns = 0;
};

/// The instruction sets that the products are written for, the best one last.
enum class PanelKernel { kPlain, kAvx2, kAvx512, kVnni };
/// Those that this machine runs. ATEN_CPU_CAPABILITY=avx2 holds back those of AVX-512.
std::vector<PanelKernel> panel_kernels();

/// Whether a product of x with panels is the one below: float32, and no gradient wanted.
bool rounds_for_panels(const at::Tensor& x);

/// Whether panel_products() is what computes it: kernels, x and matrix on the CPU, and not more rows than a product of
/// rounded_values(x) with the decoded matrix takes better.
bool has_panel_kernels(const at::Tensor& x, const at::Device& matrix);

/// rounded(x) W^T for each of the matrices, x [..., columns] -> [..., rows], where rounded(x) has each 32 columns of x
/// as 8-bit codes and a scale (rounded_rows.h). Codes are multiplied and added as whole numbers, groups of 32 columns
/// in float32 in their order: the bytes are the same with every kernel and number of threads, and a row's do not depend
/// on other rows. `kernel`: for tests.
std::vector<at::Tensor> panel_products(const at::Tensor& x, const std::vector<PanelMatrix>& matrices);
std::vector<at::Tensor> panel_products(const at::Tensor& x, const std::vector<PanelMatrix>& matrices,
                                       PanelKernel kernel);

}  // namespace mla
