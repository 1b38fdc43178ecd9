// The thread sanitizer does not see how the threads of libgomp wait for each other, since libgomp is not compiled for
// it: whatever a parallel region read or wrote would race with all that comes after. This stands before libgomp's entry
// into parallel regions and tells the sanitizer that they begin after what came before them, and end before what
// follows; what threads do to each other within a region is watched as ever.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

namespace {

using Region = void (*)(void*);

struct Edges {
  Region region;
  void* data;
  char begin = 0, end = 0;  // their addresses name the two edges
};

void run_between_edges(void* argument) {
  auto* edges = static_cast<Edges*>(argument);
  __tsan_acquire(&edges->begin);
  edges->region(edges->data);
  __tsan_release(&edges->end);
}

}  // namespace

extern "C" void GOMP_parallel(Region region, void* data, unsigned threads, unsigned flags) {
  static const auto next =
      reinterpret_cast<void (*)(Region, void*, unsigned, unsigned)>(::dlsym(RTLD_NEXT, "GOMP_parallel"));
  Edges edges{region, data};
  __tsan_release(&edges.begin);
  next(&run_between_edges, &edges, threads, flags);
  __tsan_acquire(&edges.end);
}
