#include "core/attention/adapted_weights.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/ops/thin_linear.h"

namespace mla {
namespace {

enum AdaptedPart : std::size_t { kAdapterDown, kAdapterUp, kAdaptedBase };

struct AdaptedWeightsOptions {
  std::int64_t rank = 1;
  double alpha = 1;
  Json base;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("rank", self.rank, "rows of A, columns of B");
    visit("alpha", self.alpha, "alpha / rank B A is added to the matrix");
    visit("base", self.base, "how the matrix is held, {\"name\": …}; null: dense, as NAME.weight");
  }

  void validate(const std::string& path) const {
    if (rank < 1) throw ConfigError(cat(path, ".rank = ", rank, ": must be at least 1"));
  }
};

/// The parts of A, of B, and of the matrix that they stand beside.
class AdaptedWeights final : public WeightStorage {
 public:
  using Options = AdaptedWeightsOptions;
  AdaptedWeights(const Options& options, const std::string& path) : fields_{options.rank, options.alpha} {
    if (!options.base.is_null()) base_ = Registry<WeightStorage>::instance().make(options.base, path + ".base");
    if (adapters_of(base_)) throw ConfigError(cat(path, ".base: has adapters, and one matrix has one pair"));
  }
  AdaptedWeights(const AdapterFields& fields, std::shared_ptr<const WeightStorage> base)
      : fields_(fields), base_(std::move(base)) {}

  std::string kind() const override { return "lora"; }
  Json fields() const override {
    Json base;
    if (base_) {
      base = base_->fields();
      base["name"] = base_->kind();
    }
    return write_fields(AdaptedWeightsOptions{fields_.rank, fields_.alpha, base});
  }
  std::string description() const override {
    return cat("LoRA adapters of rank ", fields_.rank, " beside ", base_ ? base_->description() : "dense weights");
  }

  void check(const MatrixShape& shape, const std::string& where) const override {
    if (base_) base_->check(shape, where + ".base");
  }

  std::vector<StoredPart> parts(const MatrixShape& shape) const override {
    std::vector<StoredPart> all = {{"lora_A.weight", {fields_.rank, shape.columns}, {}},
                                   {"lora_B.weight", {shape.rows, fields_.rank}, {}}};
    if (!base_) all.push_back({"weight", {shape.rows, shape.columns}, {}});
    for (StoredPart& part : base_ ? base_->parts(shape) : std::vector<StoredPart>{}) all.push_back(std::move(part));
    return all;
  }

  void expect_valid(const std::vector<at::Tensor>& parts, const MatrixShape& shape,
                    const std::string& where) const override {
    for (std::size_t i = 0; i < (base_ ? kAdaptedBase : parts.size()); ++i) {
      if (!parts.at(i).isfinite().all().item<bool>()) throw DataError(cat(where, ": holds NaN or infinite values"));
    }
    if (base_) base_->expect_valid(base_parts(parts), shape, where);
  }

  at::Tensor dense(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const override {
    const at::Tensor &down = parts.at(kAdapterDown), base = base_map(parts, shape).matrix_for(down);
    return base.add(at::matmul(parts.at(kAdapterUp), down), scale());
  }

  bool is_factored() const override { return true; }
  const AdapterFields& adapters() const { return fields_; }
  bool is_dense() const { return !base_; }

  at::Tensor multiply(const std::vector<at::Tensor>& parts, const at::Tensor& x) const override {
    const MatrixShape shape{parts.at(kAdapterUp).size(0), parts.at(kAdapterDown).size(1)};
    const at::Tensor inner = linear_rows(x, matching(parts.at(kAdapterDown), x));
    return base_map(parts, shape)(x).add(linear_rows(inner, matching(parts.at(kAdapterUp), x)), scale());
  }

 private:
  double scale() const { return fields_.alpha / static_cast<double>(fields_.rank); }
  static std::vector<at::Tensor> base_parts(const std::vector<at::Tensor>& parts) {
    return {parts.begin() + kAdaptedBase, parts.end()};
  }
  Linear base_map(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const {
    return base_ ? Linear(base_, shape, base_parts(parts), {}) : Linear(parts.at(kAdaptedBase));
  }

  AdapterFields fields_;
  std::shared_ptr<const WeightStorage> base_;
};

const Registration<WeightStorage, AdaptedWeights> kAdaptedWeights(
    "lora", "adapters beside a matrix held in any way: NAME.lora_A.weight, NAME.lora_B.weight, and its own tensors");

const AdaptedWeights* as_adapted(const std::shared_ptr<const WeightStorage>& storage) {
  return dynamic_cast<const AdaptedWeights*>(storage.get());
}

/// The tensors of a map.
std::map<std::string, at::Tensor> parts_of(const Linear& map) {
  std::map<std::string, at::Tensor> parts;
  Linear(map).visit_stored("", [&](const std::string& name, at::Tensor& tensor) { parts[name.substr(1)] = tensor; });
  return parts;
}

}  // namespace

Linear with_adapters(const Linear& map, const AdapterFields& fields, const at::Tensor& down) {
  expects(!adapters_of(map.storage()), "one matrix has one pair of adapters");
  const MatrixShape shape{map.rows(), map.columns()};
  const auto storage = std::make_shared<AdaptedWeights>(fields, map.storage());
  std::map<std::string, at::Tensor> found = parts_of(map);
  std::vector<at::Tensor> parts = {down, at::zeros({shape.rows, fields.rank}, down.options())};
  for (const StoredPart& part : storage->parts(shape)) {
    if (const auto own = found.find(part.name); own != found.end()) parts.push_back(own->second);
  }
  return {storage, shape, std::move(parts), map.bias()};
}

Linear without_adapters(const Linear& map) {
  expects(adapters_merge(map.storage()), "adapters are merged into a dense matrix");
  const at::ScalarType held = parts_of(map).at("weight").scalar_type();
  return {map.to_dense().detach().to(held).contiguous(), map.bias()};
}

std::optional<AdapterFields> adapters_of(const std::shared_ptr<const WeightStorage>& storage) {
  const AdaptedWeights* adapted = as_adapted(storage);
  return adapted ? std::optional(adapted->adapters()) : std::nullopt;
}

bool adapters_merge(const std::shared_ptr<const WeightStorage>& storage) {
  const AdaptedWeights* adapted = as_adapted(storage);
  return adapted && adapted->is_dense();
}

}  // namespace mla
