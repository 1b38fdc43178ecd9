#include "core/ops/checkpoint_block.h"

#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

namespace mla {
namespace {

using Block = std::function<at::Tensor(const at::Tensor&)>;

struct Holder : torch::CustomClassHolder {
  explicit Holder(Block given) : block(std::move(given)) {}
  Block block;
};

struct Checkpointed : torch::autograd::Function<Checkpointed> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const Block& block) {
    context->save_for_backward({x});
    context->saved_data["block"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(block));
    return block(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const at::AutoGradMode with_gradients(true);
    const auto holder = context->saved_data["block"].toCapsule();
    const at::Tensor x = context->get_saved_variables()[0].detach().requires_grad_(true);
    static_cast<Holder&>(*holder).block(x).backward(gradients[0]);
    return {x.grad(), at::Tensor()};
  }
};

}  // namespace

at::Tensor checkpoint_block(const at::Tensor& x, Block block) { return Checkpointed::apply(x, block); }

}  // namespace mla
