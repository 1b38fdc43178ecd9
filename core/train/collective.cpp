#include "core/train/collective.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdlib>

#include "core/base/error.h"

namespace mla {
namespace {

class SingleProcess final : public Collective {
 public:
  std::int64_t rank() const override { return 0; }
  std::int64_t size() const override { return 1; }
  std::int64_t local_size() const override { return 1; }
  void sum_in_place(const at::Tensor&) override {}
  void broadcast(const at::Tensor&) override {}
  bool all_failed() override { return true; }
  void abort(int exit_code) override { std::exit(exit_code); }
};

/// How many processes were started together, as Open MPI's mpirun, or one that speaks PMI, tells each of them.
long started_together() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (const char* size = std::getenv(name)) return std::strtol(size, nullptr, 10);
  }
  return 1;
}

std::unique_ptr<Collective> join_world() {
  const long size = started_together();
  if (size <= 1) return std::make_unique<SingleProcess>();
#ifdef MLA_WITH_MPI
  return make_mpi_collective();
#else
  throw ConfigError(cat("started as ", size,
                        " processes, but this program was built without MPI; install "
                        "libopenmpi-dev and build it again, or start it without mpirun"));
#endif
}

/// Passes all tensors through `exchange` as one flat buffer on the CPU.
template <class Exchange>
void as_one_buffer(const std::vector<at::Tensor>& tensors, const Exchange& exchange) {
  if (tensors.empty()) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> flat;
  for (const at::Tensor& tensor : tensors) {
    expects(tensor.scalar_type() == tensors.front().scalar_type(), "tensors of one message have one dtype");
    flat.push_back(tensor.detach().reshape(-1));
  }
  const at::Tensor buffer = at::cat(flat).cpu();
  exchange(buffer);
  std::int64_t begin = 0;
  for (const at::Tensor& tensor : tensors) {
    tensor.detach().copy_(buffer.narrow(0, begin, tensor.numel()).view(tensor.sizes()));
    begin += tensor.numel();
  }
}

}  // namespace

double Collective::sum(double value) {
  const at::Tensor cell = at::full({1}, value, at::kDouble);
  sum_in_place(cell);
  return cell.item<double>();
}

bool Collective::any(bool value) { return sum(value ? 1 : 0) > 0; }

void sum_in_place(Collective& group, const std::vector<at::Tensor>& tensors) {
  if (group.size() > 1) as_one_buffer(tensors, [&](const at::Tensor& buffer) { group.sum_in_place(buffer); });
}

void broadcast(Collective& group, const std::vector<at::Tensor>& tensors) {
  if (group.size() > 1) as_one_buffer(tensors, [&](const at::Tensor& buffer) { group.broadcast(buffer); });
}

Collective& single_process() {
  static SingleProcess alone;
  return alone;
}

Collective& world() {
  static const std::unique_ptr<Collective> processes = join_world();
  return *processes;
}

}  // namespace mla
