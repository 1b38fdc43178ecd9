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
  void sum_parts(const at::Tensor& values, const std::vector<std::int64_t>&, const at::Tensor& own) override {
    own.copy_(values.view_as(own));
  }
  void share_parts(const at::Tensor&, const std::vector<std::int64_t>&) override {}
  GroupFailure settle(int exit_code, bool) override { return {0, exit_code, true}; }
};

/// The number in an environment variable; 0 without one.
long number_in(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : std::strtol(text, nullptr, 10);
}

/// How many processes were started together, as Open MPI's mpirun, one that speaks PMI, or Slurm's srun tells each of
/// them. What a batch script starts without srun is one process, however many tasks the job has.
long started_together() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (const long size = number_in(name); size > 0) return size;
  }
  return 1;
}

std::unique_ptr<Collective> join_world() {
  const long size = started_together();
  if (size <= 1) return std::make_unique<SingleProcess>();
#ifdef MLA_WITH_MPI
  const std::string hint =
      "start them with srun --mpi=pmix (srun --mpi=list shows what there is) or with Open MPI's mpirun; separate runs "
      "that share their cells are started by mlaforge slurm";
  auto group = make_mpi_collective();
  if (!group) throw ConfigError(cat("srun started ", size, " processes that do not find each other; ", hint));
  if (group->size() != size) {
    throw ConfigError(
        cat("started as ", size, " processes, of which MPI finds ", group->size(), ": another MPI's launcher? ", hint));
  }
  return group;
#else
  throw ConfigError(cat("started as ", size,
                        " processes, but this program was built without MPI; install "
                        "libopenmpi-dev and build it again, or start it without mpirun and srun"));
#endif
}

/// A message is at least so long where there is so much to tell.
constexpr std::int64_t kMessageElements = std::int64_t{1} << 23;

/// Passes tensors through `exchange` as one flat buffer on the CPU.
template <class Exchange>
void as_one_buffer(const std::vector<at::Tensor>& tensors, const Exchange& exchange) {
  if (tensors.empty()) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> flat;
  for (const at::Tensor& tensor : tensors) {
    expects(tensor.scalar_type() == tensors.front().scalar_type(), "tensors of one message have one dtype");
    flat.push_back(tensor.detach().reshape(-1));
  }
  // One large tensor needs no copy.
  const bool as_it_is = tensors.size() == 1 && tensors.front().is_cpu() && tensors.front().is_contiguous();
  const at::Tensor buffer = as_it_is ? flat.front() : at::cat(flat).cpu();
  exchange(buffer);
  if (as_it_is) return;
  std::int64_t begin = 0;
  for (const at::Tensor& tensor : tensors) {
    tensor.detach().copy_(buffer.narrow(0, begin, tensor.numel()).view(tensor.sizes()));
    begin += tensor.numel();
  }
}

/// The same for as many buffers as it takes.
template <class Exchange>
void as_buffers(const std::vector<at::Tensor>& tensors, const Exchange& exchange) {
  std::vector<at::Tensor> together;
  std::int64_t elements = 0;
  for (const at::Tensor& tensor : tensors) {
    together.push_back(tensor);
    elements += tensor.numel();
    if (elements < kMessageElements) continue;
    as_one_buffer(together, exchange);
    together.clear();
    elements = 0;
  }
  as_one_buffer(together, exchange);
}

}  // namespace

double Collective::sum(double value) {
  const at::Tensor cell = at::full({1}, value, at::kDouble);
  sum_in_place(cell);
  return cell.item<double>();
}

bool Collective::any(bool value) { return sum(value ? 1 : 0) > 0; }

std::string Collective::text_of(std::int64_t from, const std::string& text) {
  const bool gives = rank() == from;
  const auto length = static_cast<std::int64_t>(sum(gives ? static_cast<double>(text.size()) : 0));
  const at::Tensor letters = at::zeros({length}, at::kDouble);
  double* values = letters.mutable_data_ptr<double>();
  for (std::int64_t i = 0; gives && i < length; ++i) values[i] = static_cast<unsigned char>(text[i]);
  sum_in_place(letters);
  return {values, values + length};
}

void broadcast(Collective& group, const std::vector<at::Tensor>& tensors) {
  if (group.size() > 1) as_buffers(tensors, [&](const at::Tensor& buffer) { group.broadcast(buffer); });
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
