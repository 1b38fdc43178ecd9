#include "experiments/tasks/evaluation_task.h"

namespace mla {

std::optional<Chat> chat_of(const EvaluationConfig& config, const std::filesystem::path& place,
                            const Tokenizer& tokenizer) {
  if (!config.chat) return std::nullopt;
  std::optional<std::string> system;
  if (!config.system.empty()) system = config.system;
  return Chat(place, tokenizer, system);
}

std::optional<Chat> chat_of(const EvaluationConfig& config, TaskSurroundings& surroundings) {
  if (!config.chat) return std::nullopt;
  return chat_of(config, surroundings.place_of_tokenizer(), surroundings.tokenizer());
}

std::string describe(Asks asks) {
  switch (asks) {
    case Asks::kLogLikelihoods:
      return "log-likelihoods";
    case Asks::kGenerations:
      return "generations";
    case Asks::kHiddenStates:
      return "hidden states";
    case Asks::kSteps:
      return "decoding steps";
    case Asks::kNothing:
      break;
  }
  return "nothing";
}

}  // namespace mla
