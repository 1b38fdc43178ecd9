#include "core/model/weight_pages.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/memory.h"

namespace mla {
namespace {

/// A page more or less for each of a layer's norms is not worth a map of its own.
constexpr std::size_t kWorthShelving = 1 << 16;

/// The folder itself where it is there, or the nearest around it.
std::filesystem::path folder_around(const std::filesystem::path& path) {
  std::filesystem::path folder = std::filesystem::absolute(path);
  while (folder.has_relative_path() && !std::filesystem::exists(folder)) folder = folder.parent_path();
  return folder;
}

std::string prefix_of(std::int64_t layer) { return cat("model.layers.", layer, "."); }

template <class Visit>
void visit_prefixed(Decoder& decoder, const std::string& prefix, const Visit& visit) {
  decoder.visit_stored([&](const std::string& name, at::Tensor& tensor) {
    if (name.starts_with(prefix) && tensor.defined()) visit(tensor);
  });
}

bool stands_in_a_file(const at::Tensor& tensor) {
  const at::Storage& storage = tensor.storage();
  return tensor.is_cpu() && storage.nbytes() > 0 && is_mapped(storage.data(), storage.nbytes());
}

}  // namespace

void release_pages(const at::Tensor& tensor) {
  if (stands_in_a_file(tensor)) release_mapped(tensor.storage().data(), tensor.storage().nbytes());
}

void release_weights(const Decoder& decoder, const std::string& prefix) {
  // Visiting hands out references for replacement; looking replaces nothing.
  visit_prefixed(const_cast<Decoder&>(decoder), prefix, [](const at::Tensor& tensor) { release_pages(tensor); });
}

void release_layer(const Decoder& decoder, std::int64_t layer) { release_weights(decoder, prefix_of(layer)); }

at::Tensor WeightShelf::shelve(const at::Tensor& tensor) {
  if (!tensor.is_cpu() || tensor.nbytes() < kWorthShelving || stands_in_a_file(tensor)) return tensor;
  if (!file_) file_.emplace(folder_around(output_));
  // Products may round in another order over other strides.
  const at::Tensor dense = tensor.is_non_overlapping_and_dense() ? tensor : tensor.contiguous();
  const std::shared_ptr<std::byte> memory = file_->keep(dense.const_data_ptr(), dense.nbytes());
  return at::from_blob(
      memory.get(), dense.sizes(), dense.strides(), [memory](void*) {}, dense.options());
}

void WeightShelf::shelve_layer(Decoder& decoder, std::int64_t layer) {
  visit_prefixed(decoder, prefix_of(layer), [&](at::Tensor& tensor) { tensor = shelve(tensor); });
  release_all_mapped();  // what the layer had before is no longer among its weights
  give_back_freed_memory();
}

}  // namespace mla
