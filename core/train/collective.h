// The processes that train one model together, and what they tell each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace mla {

/// A group of processes that all do the same steps, each on its share of the data. Every process must make the same
/// calls in the same order, except where a function says otherwise.
class Collective {
 public:
  virtual ~Collective() = default;

  virtual std::int64_t rank() const = 0;  ///< 0 … size() - 1
  virtual std::int64_t size() const = 0;
  virtual std::int64_t local_size() const = 0;  ///< of them on this machine

  /// Replaces `values` (contiguous, on the CPU, float32 or float64) by their sum over all processes; the same bits in
  /// each of them.
  virtual void sum_in_place(const at::Tensor& values) = 0;

  /// Replaces `values` (as above) by those of rank 0.
  virtual void broadcast(const at::Tensor& values) = 0;

  /// For a process whose work has failed, at any time: waits some seconds for the others to fail too. True when all
  /// did, so that they are in step again; false when the others go on, who then must be ended with abort().
  virtual bool all_failed() = 0;

  /// Ends all processes at once with this exit code.
  [[noreturn]] virtual void abort(int exit_code) = 0;

  /// Rank 0 writes files and speaks for all.
  bool first() const { return rank() == 0; }

  double sum(double value);
  bool any(bool value);
};

/// Sums tensors of one dtype over all processes, in one message.
void sum_in_place(Collective& group, const std::vector<at::Tensor>& tensors);

/// Replaces tensors of one dtype by those of rank 0, in one message.
void broadcast(Collective& group, const std::vector<at::Tensor>& tensors);

/// This process alone.
Collective& single_process();

/// The processes that mpirun started together, or this one alone. The first call joins them.
/// Throws ConfigError when mpirun started several but the program was built without MPI.
Collective& world();

/// Joins the processes of MPI_COMM_WORLD; defined only in a build with MPI.
std::unique_ptr<Collective> make_mpi_collective();

}  // namespace mla
