// A source model that is known and not loaded.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "experiments/config/experiment_config.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {

/// What evaluations may ask before any weight is read: the model's description, its tokenizer, the text. Its decoder
/// has no weights and computes nothing.
class UnloadedSource final : public TaskSurroundings {
 public:
  UnloadedSource(const ModelConfig& model, const ModelSpec& spec) : model_(model), decoder_(spec) {}

  const Decoder& source() override { return decoder_; }
  const Tokenizer& tokenizer() override;
  std::filesystem::path place_of_tokenizer() override;
  const TokenRows& rows(const DataOptions& data) override;
  int threads() const override;

 protected:
  std::shared_ptr<const void>& kept(const std::string& key) override { return prepared_[key]; }

 private:
  ModelConfig model_;
  Decoder decoder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::map<std::string, TokenRows> rows_;
  std::map<std::string, std::shared_ptr<const void>> prepared_;
};

}  // namespace mla
