#include "experiments/tasks/evaluation_task.h"

namespace mla {

std::string describe(Asks asks) {
  switch (asks) {
    case Asks::kLogLikelihoods:
      return "log-likelihoods";
    case Asks::kGenerations:
      return "generations";
    case Asks::kHiddenStates:
      return "hidden states";
    case Asks::kNothing:
      break;
  }
  return "nothing";
}

}  // namespace mla
