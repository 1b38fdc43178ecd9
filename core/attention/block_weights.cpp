#include "core/attention/block_weights.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/base/suggest.h"
#include "core/ops/encode_blocks.h"

namespace mla {
namespace {

struct BlockWeightsOptions {
  std::string type = "Q8_0";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("type", self.type, "of the blocks, as ggml calls it: Q8_0 | Q4_0 | Q4_1 | Q4_K | Q6_K");
  }

  void validate(const std::string& path) const {
    if (!find_block_format(type))
      throw ConfigError(cat(path, ".type = ", brief_text(type), ": known: ", block_format_names()));
  }
};

class BlockWeights final : public WeightStorage {
 public:
  using Options = BlockWeightsOptions;
  explicit BlockWeights(const Options& options) : format_(*find_block_format(options.type)) {}
  explicit BlockWeights(const BlockFormat& format) : format_(format) {}

  std::string kind() const override { return "gguf"; }
  Json fields() const override { return {{"type", format_.name}}; }
  std::string description() const override { return cat(format_.name, " blocks"); }

  void check(const MatrixShape& shape, const std::string& where) const override {
    // Files fill up no rows; of the small blocks, which are made here, too, the last one of a row may be.
    if (format_.columns == kGroupColumns || shape.columns % format_.columns == 0) return;
    throw ConfigError(cat(where, ": ", shape.columns, " columns are no multiple of ", format_.columns,
                          ", the columns of a ", format_.name, " block"));
  }

  std::vector<StoredPart> parts(const MatrixShape& shape) const override {
    return {{"blocks",
             {(shape.rows + kPanelRows - 1) / kPanelRows, blocks_of_row(format_, shape.columns), format_.panel_bytes},
             at::kByte}};
  }

  void expect_valid(const std::vector<at::Tensor>& parts, const MatrixShape&, const std::string& where) const override {
    if (!has_finite_scales(format_, parts.front().to(at::kCPU).contiguous()))
      throw DataError(cat(where, ": holds NaN or infinite scales"));
  }

  bool is_converted_from() const override { return true; }

  at::Tensor dense(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const override {
    return decoded(parts.front(), shape, {});
  }

  at::Tensor rows(const std::vector<at::Tensor>& parts, const MatrixShape& shape,
                  const at::Tensor& numbers) const override {
    return decoded(parts.front(), shape, numbers.to(at::kCPU));
  }

  std::optional<PanelMatrix> panels(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const override {
    return PanelMatrix{&format_, parts.front(), shape.rows, shape.columns};
  }

 private:
  /// Codes are decoded on the host, wherever they lie.
  at::Tensor decoded(const at::Tensor& panels, const MatrixShape& shape, const at::Tensor& numbers) const {
    return decode_panels(format_, panels.to(at::kCPU).contiguous(), shape.rows, shape.columns, numbers)
        .to(panels.device());
  }

  const BlockFormat& format_;
};

const Registration<WeightStorage, BlockWeights> kBlockWeights("gguf", "blocks of codes as GGUF has them: NAME.blocks");

}  // namespace

std::shared_ptr<const WeightStorage> block_storage(const BlockFormat& format) {
  return std::make_shared<BlockWeights>(format);
}

Linear hold_as_blocks(const Linear& map, const BlockFormat& format) {
  const at::Tensor matrix = map.to_dense().detach().to(at::kCPU, at::kFloat).contiguous();
  const at::Tensor panels = to_panels(format, encode_blocks(format, matrix)).to(map.device());
  return {block_storage(format), {map.rows(), map.columns()}, {panels}, map.bias()};
}

}  // namespace mla
