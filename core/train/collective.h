// The processes that train one model together, and what they tell each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace mla {

/// Another process of the group has failed: the work at hand cannot be finished.
class PeerFailed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The failure that ended a piece of work of all processes: the gravest one, of the lowest rank that has such a one.
struct GroupFailure {
  std::int64_t rank = 0;
  int exit_code = 0;
  bool ends = false;  ///< a process is about to end, so that all must
};

/// A group of processes that all do the same steps, each on its share of the data. Every process must make the same
/// calls in the same order, until one of them fails: that one calls settle(), at any time, and in the others the next
/// call throws PeerFailed, whatever it was to exchange.
class Collective {
 public:
  virtual ~Collective() = default;

  virtual std::int64_t rank() const = 0;  ///< 0 … size() - 1
  virtual std::int64_t size() const = 0;
  virtual std::int64_t local_size() const = 0;  ///< of them on this machine
  /// Whether calls, one at a time, may come from any thread.
  virtual bool serves_threads() const { return true; }

  /// Replaces `values` (contiguous, on the CPU, float32 or float64) by their sum over all processes; the same bits in
  /// each of them.
  virtual void sum_in_place(const at::Tensor& values) = 0;

  /// Replaces `values` (as above) by those of rank 0.
  virtual void broadcast(const at::Tensor& values) = 0;

  /// Each process has a part of `values` (as above), counts[rank] elements of it one after the other, which are all.
  /// Puts the sum over all processes of its part into `own`, which has as many elements.
  virtual void sum_parts(const at::Tensor& values, const std::vector<std::int64_t>& counts, const at::Tensor& own) = 0;

  /// Replaces each process's part of `values` (as above) by what that process has there.
  virtual void share_parts(const at::Tensor& values, const std::vector<std::int64_t>& counts) = 0;

  /// For every process where a piece of work is given up, after a failure of its own or PeerFailed. Waits until all
  /// have learned of it; then they are in step again, unless the failure `ends` all: then it is to be passed on to
  /// where the process ends, which calls this with `last`, and all of them leave together. Exit code 130 (a signal)
  /// always ends.
  virtual GroupFailure settle(int exit_code, bool last) = 0;

  /// Rank 0 writes files and speaks for all.
  bool first() const { return rank() == 0; }

  double sum(double value);
  bool any(bool value);
  /// The text that process `from` gives, in all of them; what the others give does not matter.
  std::string text_of(std::int64_t from, const std::string& text);
};

/// Replaces tensors of one dtype by those of rank 0, in messages of some megabytes, so that no second copy of all of
/// them is made.
void broadcast(Collective& group, const std::vector<at::Tensor>& tensors);

/// This process alone.
Collective& single_process();

/// The processes that mpirun or srun started together, or this one alone. The first call joins them. Throws ConfigError
/// for several that cannot find each other: the program was built without MPI, or srun or another MPI started them.
Collective& world();

/// Joins the processes of MPI_COMM_WORLD; null where it cannot know of them. Defined only in a build with MPI.
std::unique_ptr<Collective> make_mpi_collective();

}  // namespace mla
