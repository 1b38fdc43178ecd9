// The processes of MPI: compiled only where MPI was found, and the only file that knows it.
#include <ATen/ATen.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/train/collective.h"

namespace mla {
namespace {

constexpr std::int64_t kElementsPerCall = std::int64_t{1} << 30;  // MPI counts in int
constexpr int kSharedElements = 1 << 18;

// How a process waits for the others: it looks a few times at once, then at longer and longer intervals.
constexpr int kLooksAtOnce = 50;
constexpr std::chrono::microseconds kFirstPause{20}, kLongestPause{200};

// Errors of MPI itself end all processes with a message (MPI_ERRORS_ARE_FATAL, the default): none can be mended here.
class MpiCollective final : public Collective {
 public:
  MpiCollective() {
    // While values are under way, who waits for the next ones lets threads that compute go first.
    ::setenv("OMPI_MCA_mpi_yield_when_idle", "1", /*overwrite=*/0);
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
    serves_threads_ = provided >= MPI_THREAD_SERIALIZED;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
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
  bool serves_threads() const override { return serves_threads_; }

  void sum_in_place(const at::Tensor& values) override {
    meet();
    by_parts(values, [](void* part, int count, MPI_Datatype type) {
      MPI_Allreduce(MPI_IN_PLACE, part, count, type, MPI_SUM, MPI_COMM_WORLD);
    });
  }

  void broadcast(const at::Tensor& values) override {
    meet();
    by_parts(values, [](void* part, int count, MPI_Datatype type) { MPI_Bcast(part, count, type, 0, MPI_COMM_WORLD); });
  }

  void sum_parts(const at::Tensor& values, const std::vector<std::int64_t>& counts, const at::Tensor& own) override {
    meet();
    expects(own.numel() == counts.at(static_cast<std::size_t>(rank_)) && own.scalar_type() == values.scalar_type(),
            "a process gets its part");
    MPI_Reduce_scatter(memory_of(values), memory_of(own), as_ints(counts, values).data(), type_of(values), MPI_SUM,
                       MPI_COMM_WORLD);
  }

  void share_parts(const at::Tensor& values, const std::vector<std::int64_t>& counts) override {
    meet();
    const std::vector<int> sizes = as_ints(counts, values);
    std::vector<int> begins(sizes.size(), 0), now(sizes.size());
    std::partial_sum(sizes.begin(), sizes.end() - 1, begins.begin() + 1);
    // In turns: what is under way between processes of a machine takes memory, too.
    for (int done = 0, most = *std::max_element(sizes.begin(), sizes.end()); done < most; done += kSharedElements) {
      std::transform(sizes.begin(), sizes.end(), now.begin(),
                     [&](int size) { return std::clamp(size - done, 0, kSharedElements); });
      MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, memory_of(values), now.data(), begins.data(), type_of(values),
                     MPI_COMM_WORLD);
      std::transform(begins.begin(), begins.end(), now.begin(), begins.begin(), std::plus<>());
    }
  }

  GroupFailure settle(int exit_code, bool last) override {
    const std::int64_t own = encoded(exit_code, last);
    State state = known_ != 0 ? State{std::exchange(known_, 0), true} : exchange(own, last);
    // Others may have learned of it elsewhere, and be on their way here.
    while (last && state.goes_on) state = exchange(state.failure, last);
    const GroupFailure failure = decoded(state.failure);
    if (failure.ends && !last) known_ = state.failure;
    return failure;
  }

 private:
  /// The gravest failure that any process tells, 0 for none; whether any process is not about to end.
  struct State {
    std::int64_t failure = 0;
    bool goes_on = true;
  };

  static State exchange(std::int64_t failure, bool last) {
    std::int64_t values[2] = {failure, last ? 0 : 1};
    MPI_Request request;
    MPI_Iallreduce(MPI_IN_PLACE, values, 2, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD, &request);
    wait_for(request);
    return {values[0], values[1] != 0};
  }

  /// MPI's own waiting takes a processor from those that compute, for as long as the slowest process needs to come.
  static void wait_for(MPI_Request& request) {
    auto pause = kFirstPause;
    for (int looks = 1, done = 0;; ++looks) {
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (done != 0) return;
      if (looks < kLooksAtOnce) continue;
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, kLongestPause);
    }
  }

  /// Before anything is exchanged: nobody may have left the common path, and nobody waits any more where MPI does.
  void meet() {
    known_ = exchange(0, false).failure;
    if (known_ != 0) throw PeerFailed(cat("process ", decoded(known_).rank, " has failed"));
  }

  // Graver failures are larger numbers: those that end all, then by exit code, then of lower ranks.
  static constexpr int kCodeShift = 32, kEndsShift = 48;
  std::int64_t encoded(int exit_code, bool last) const {
    const bool ends = last || exit_code == static_cast<int>(ExitCode::kInterrupted);
    return (std::int64_t{ends} << kEndsShift) | (std::int64_t{exit_code} << kCodeShift) | (size_ - rank_);
  }
  GroupFailure decoded(std::int64_t failure) const {
    constexpr std::int64_t kCodes = (std::int64_t{1} << (kEndsShift - kCodeShift)) - 1;
    constexpr std::int64_t kRanks = (std::int64_t{1} << kCodeShift) - 1;
    return {size_ - (failure & kRanks), static_cast<int>((failure >> kCodeShift) & kCodes),
            (failure >> kEndsShift) != 0};
  }

  static void* memory_of(const at::Tensor& values) {
    expects(values.is_contiguous() && values.is_cpu(), "processes exchange contiguous values on the CPU");
    return values.mutable_data_ptr();
  }
  static MPI_Datatype type_of(const at::Tensor& values) {
    const bool wide = values.scalar_type() == at::kDouble;
    expects(wide || values.scalar_type() == at::kFloat, "processes exchange float32 or float64");
    return wide ? MPI_DOUBLE : MPI_FLOAT;
  }
  std::vector<int> as_ints(const std::vector<std::int64_t>& counts, const at::Tensor& values) const {
    expects(std::ssize(counts) == size_ && values.numel() <= std::numeric_limits<int>::max() &&
                std::accumulate(counts.begin(), counts.end(), std::int64_t{0}) == values.numel(),
            "the parts of all processes are all values, of which MPI counts 2^31");
    return {counts.begin(), counts.end()};
  }

  template <class Call>
  static void by_parts(const at::Tensor& values, const Call& call) {
    auto* bytes = static_cast<char*>(memory_of(values));
    for (std::int64_t begin = 0; begin < values.numel(); begin += kElementsPerCall) {
      const auto count = static_cast<int>(std::min(kElementsPerCall, values.numel() - begin));
      call(bytes + begin * values.element_size(), count, type_of(values));
    }
  }

  int rank_ = 0, size_ = 1, local_size_ = 1;
  bool serves_threads_ = true;
  std::int64_t known_ = 0;  // a failure that settle() has yet to deal with
};

}  // namespace

std::unique_ptr<Collective> make_mpi_collective() {
  // MPI would end a process that was started together with others and not told of them in a way that it understands.
#ifdef OPEN_MPI
  constexpr const char* kRanks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"};
#else
  constexpr const char* kRanks[] = {"PMI_RANK", "PMIX_RANK"};
#endif
  const bool told =
      std::any_of(std::begin(kRanks), std::end(kRanks), [](const char* name) { return std::getenv(name); });
  return told ? std::make_unique<MpiCollective>() : nullptr;
}

}  // namespace mla
