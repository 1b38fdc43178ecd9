// Every operator of the fake device: the host's, given the same memory by addresses that it may touch.
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/devices/fake_device.h"

namespace mla::test {

DeviceCounts& fake::counts() {
  static DeviceCounts all;
  return all;
}

DeviceCounts device_counts() { return fake::counts(); }

DeviceCounts operator-(const DeviceCounts& a, const DeviceCounts& b) {
  return {a.operations - b.operations, a.waits - b.waits, a.copies_to_host - b.copies_to_host,
          a.copies_to_device - b.copies_to_device, a.wide_products - b.wide_products};
}

namespace {

bool is_there(const at::Tensor& tensor) { return tensor.defined() && tensor.device() == kFakeDevice; }

/// The same elements as a tensor of the host.
at::Tensor seen_from_host(const at::Tensor& tensor) {
  const c10::Storage& storage = tensor.storage();
  void* memory = fake::reachable(storage.data_ptr().get());
  c10::Storage same(c10::Storage::use_byte_size_t(), storage.nbytes(),
                    c10::DataPtr(
                        memory, nullptr, [](void*) {}, c10::Device(at::kCPU)),
                    c10::GetAllocator(at::kCPU),
                    /*resizable=*/true);
  at::Tensor seen = at::detail::make_tensor<c10::TensorImpl>(
      std::move(same), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
  seen.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  seen._set_conj(tensor.is_conj());
  return seen;
}

at::Tensor empty_there(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType type) {
  return at::detail::empty_strided_generic(sizes, strides, c10::GetAllocator(at::kPrivateUse1),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), type);
}

/// Tensors of the device that an operator was given, and what it was given for them.
class Given {
 public:
  at::Tensor lend(const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    if (!is_there(tensor)) {
      if (tensor.dim() > 0 && host_.empty()) host_ = cat_sizes(tensor);
      return tensor;
    }
    lent_.push_back({tensor, seen_from_host(tensor)});
    return lent_.back().second;
  }

  void expect_one_device(const std::string& operation) const {
    TORCH_CHECK(lent_.empty() || host_.empty(), operation, ": a tensor ", host_,
                " stands on the host, and others on the fake device");
  }

  /// Before the answers are looked at: what was made larger is so on the device.
  void follow_sizes() {
    for (const auto& [own, seen] : lent_) {
      const bool moved = seen.storage().data_ptr().get() != fake::reachable(own.storage().data_ptr().get());
      if (!moved && own.sizes() == seen.sizes() && own.strides() == seen.strides()) continue;
      if (!moved) {
        own.unsafeGetTensorImpl()->set_sizes_and_strides(seen.sizes(), seen.strides(), seen.storage_offset());
        continue;
      }
      const at::Tensor larger = empty_there(seen.sizes(), seen.strides(), seen.scalar_type());
      seen_from_host(larger).copy_(seen);
      own.unsafeGetTensorImpl()->set_storage_keep_dtype(larger.storage());
      own.unsafeGetTensorImpl()->set_sizes_and_strides(seen.sizes(), seen.strides(), 0);
    }
  }

  /// What a tensor of the answer is on the device: one that was given, a view of it, or a new one.
  at::Tensor returned(const at::Tensor& answer) const {
    if (!answer.defined()) return answer;
    for (const auto& [own, seen] : lent_) {
      if (answer.is_same(seen)) return own;
    }
    for (const auto& [own, seen] : lent_) {
      if (!answer.has_storage() || !answer.storage().is_alias_of(seen.storage())) continue;
      // With its keys: a view of what is no inference tensor is none either.
      at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(own.storage()),
                                                                 own.key_set(), answer.dtype());
      view.unsafeGetTensorImpl()->set_sizes_and_strides(answer.sizes(), answer.strides(), answer.storage_offset());
      return view;
    }
    at::Tensor made = empty_there(answer.sizes(), answer.strides(), answer.scalar_type());
    if (answer.numel() > 0) seen_from_host(made).copy_(answer);
    return made;
  }

 private:
  static std::string cat_sizes(const at::Tensor& tensor) {
    std::string text = "[";
    for (const std::int64_t size : tensor.sizes()) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    return text + "]";
  }
  std::vector<std::pair<at::Tensor, at::Tensor>> lent_;
  std::string host_;  ///< sizes of a tensor that stands elsewhere
};

c10::IValue lend(Given& given, const c10::IValue& value) {
  if (value.isTensor()) return given.lend(value.toTensor());
  if (value.isDevice()) return c10::Device(at::kCPU);
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(given.lend(tensor));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor> tensor : value.toOptionalTensorList())
      list.push_back(tensor ? std::optional(given.lend(*tensor)) : tensor);
    return list;
  }
  return value;
}

c10::IValue returned(const Given& given, const c10::IValue& value) {
  if (value.isTensor()) return given.returned(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(given.returned(tensor));
    return list;
  }
  return value;
}

/// Shapes of what these give follow from values: another device is waited for.
bool shape_follows_values(const std::string& name, at::ArrayRef<c10::IValue> arguments) {
  static const std::set<std::string> always = {"aten::nonzero",    "aten::masked_select", "aten::_unique2",
                                               "aten::unique_dim", "aten::bincount",      "aten::unique_consecutive",
                                               "aten::_unique"};
  if (always.contains(name)) return true;
  if (name != "aten::index" && !name.starts_with("aten::index_put") && name != "aten::_index_put_impl_") return false;
  for (const c10::IValue& argument : arguments) {  // a mask among the indices is counted first
    if (!argument.isOptionalTensorList()) continue;
    for (const std::optional<at::Tensor> index : argument.toOptionalTensorList()) {
      if (index && index->defined() && (index->scalar_type() == at::kBool || index->scalar_type() == at::kByte))
        return true;
    }
  }
  return false;
}

void compute(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const c10::FunctionSchema& schema = operation.schema();
  const std::size_t count = schema.arguments().size(), begin = stack->size() - count;
  Given given;
  ++fake::counts().operations;
  bool waits = shape_follows_values(schema.name(), torch::jit::last(*stack, count));
  for (std::size_t i = begin; i < stack->size(); ++i) (*stack)[i] = lend(given, (*stack)[i]);
  given.expect_one_device(schema.name());
  operation.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  given.follow_sizes();
  for (std::size_t i = begin; i < stack->size(); ++i) {
    waits = waits || !((*stack)[i].isTensor() || (*stack)[i].isTensorList());
    (*stack)[i] = returned(given, (*stack)[i]);
  }
  if (waits) ++fake::counts().waits;
}

at::Tensor empty_memory(at::IntArrayRef sizes, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                        std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, c10::GetAllocator(at::kPrivateUse1),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), type.value_or(at::kFloat),
                                   format);
}

at::Tensor empty_strided_memory(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> type,
                                std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return empty_there(sizes, strides, type.value_or(at::kFloat));
}

at::Tensor copy_values(const at::Tensor& from, const at::Tensor& to, bool unhurried) {
  const at::AutoDispatchBelowADInplaceOrView below;
  ++fake::counts().operations;
  // As on GPUs: a copy from the host that may be waited for is.
  if (!is_there(from)) ++fake::counts().copies_to_device;
  if (!is_there(from) && !unhurried) ++fake::counts().waits;
  if (!is_there(to)) {
    ++fake::counts().copies_to_host;
    ++fake::counts().waits;
  }
  at::Tensor target = is_there(to) ? seen_from_host(to) : to;
  target.copy_(is_there(from) ? seen_from_host(from) : from);
  return to;
}

/// As GPUs have it, and the host has not.
at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b, at::ScalarType type) {
  TORCH_CHECK(a.scalar_type() == at::kBFloat16 && b.scalar_type() == at::kBFloat16, "mm: not of bfloat16");
  ++fake::counts().wide_products;
  return a.to(type).mm(b.to(type));
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty_memory);
  library.impl("empty_strided", empty_strided_memory);
  library.impl("_copy_from", copy_values);
  library.impl("mm.dtype", wide_product);
}

// Where a number's conjugate is what is meant, the copy makes it.
TORCH_LIBRARY_IMPL(aten, Conjugate, library) { library.impl("_copy_from", torch::CppFunction::makeFallthrough()); }

}  // namespace mla::test
