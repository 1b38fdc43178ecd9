#include "core/ops/checkpoint_block.h"

#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

namespace mla {
namespace {

using Block = std::function<at::Tensor(const at::Tensor&)>;
using Presence = std::function<std::shared_ptr<void>()>;

struct Holder : torch::CustomClassHolder {
  Holder(Block given, Presence needed) : block(std::move(given)), presence(std::move(needed)) {}
  std::shared_ptr<void> present() const { return presence ? presence() : nullptr; }
  Block block;
  Presence presence;
};

struct Checkpointed : torch::autograd::Function<Checkpointed> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const Block& block,
                            const Presence& presence) {
    const auto holder = c10::make_intrusive<Holder>(block, presence);
    context->save_for_backward({x});
    context->saved_data["block"] = c10::IValue::make_capsule(holder);
    const std::shared_ptr<void> present = holder->present();
    return block(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const at::AutoGradMode with_gradients(true);
    const auto holder = context->saved_data["block"].toCapsule();
    const at::Tensor x = context->get_saved_variables()[0].detach().requires_grad_(true);
    const auto& given = static_cast<Holder&>(*holder);
    const std::shared_ptr<void> present = given.present();
    given.block(x).backward(gradients[0]);
    return {x.grad(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor checkpoint_block(const at::Tensor& x, Block block, Presence presence) {
  return Checkpointed::apply(x, block, presence);
}

}  // namespace mla
