// The processes of MPI: compiled only where MPI was found, and the only file that knows it.
#include <ATen/ATen.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/base/error.h"
#include "core/train/collective.h"

namespace mla {
namespace {

constexpr std::int64_t kElementsPerCall = std::int64_t{1} << 30;  // MPI counts in int
constexpr std::chrono::seconds kFailureWait(10);
constexpr std::chrono::milliseconds kFailurePoll(20);

// Errors of MPI itself end all processes with a message (MPI_ERRORS_ARE_FATAL, the default): none can be mended here.
class MpiCollective final : public Collective {
 public:
  MpiCollective() {
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm_dup(MPI_COMM_WORLD, &failures_);
    MPI_Comm machine;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &local_size_);
    MPI_Comm_free(&machine);
  }
  ~MpiCollective() override { MPI_Finalize(); }
  MpiCollective(const MpiCollective&) = delete;
  MpiCollective& operator=(const MpiCollective&) = delete;

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }
  std::int64_t local_size() const override { return local_size_; }

  void sum_in_place(const at::Tensor& values) override {
    by_parts(values, [](void* part, int count, MPI_Datatype type) {
      MPI_Allreduce(MPI_IN_PLACE, part, count, type, MPI_SUM, MPI_COMM_WORLD);
    });
  }

  void broadcast(const at::Tensor& values) override {
    by_parts(values, [](void* part, int count, MPI_Datatype type) { MPI_Bcast(part, count, type, 0, MPI_COMM_WORLD); });
  }

  /// A barrier of those that failed, on a communicator of its own: the others may be waiting for us in a sum.
  bool all_failed() override {
    MPI_Request request;
    MPI_Ibarrier(failures_, &request);
    const auto deadline = std::chrono::steady_clock::now() + kFailureWait;
    for (int done = 0; std::chrono::steady_clock::now() < deadline; std::this_thread::sleep_for(kFailurePoll)) {
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (done != 0) return true;
    }
    return false;
  }

  void abort(int exit_code) override {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::abort();  // not reached; MPI_Abort is not declared as one that does not return
  }

 private:
  template <class Call>
  static void by_parts(const at::Tensor& values, const Call& call) {
    expects(values.is_contiguous() && values.is_cpu(), "processes exchange contiguous values on the CPU");
    const bool wide = values.scalar_type() == at::kDouble;
    expects(wide || values.scalar_type() == at::kFloat, "processes exchange float32 or float64");
    auto* bytes = static_cast<char*>(values.mutable_data_ptr());
    for (std::int64_t begin = 0; begin < values.numel(); begin += kElementsPerCall) {
      const auto count = static_cast<int>(std::min(kElementsPerCall, values.numel() - begin));
      call(bytes + begin * values.element_size(), count, wide ? MPI_DOUBLE : MPI_FLOAT);
    }
  }

  int rank_ = 0, size_ = 1, local_size_ = 1;
  MPI_Comm failures_ = MPI_COMM_NULL;
};

}  // namespace

std::unique_ptr<Collective> make_mpi_collective() { return std::make_unique<MpiCollective>(); }

}  // namespace mla
