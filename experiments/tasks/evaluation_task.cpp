#include "experiments/tasks/evaluation_task.h"

namespace mla {

std::optional<Chat> chat_of(const EvaluationConfig& config, TaskSurroundings& surroundings) {
  if (!config.chat) return std::nullopt;
  std::optional<std::string> system;
  if (!config.system.empty()) system = config.system;
  return Chat(surroundings.place_of_tokenizer(), surroundings.tokenizer(), system);
}

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
