// Training on completions alone: which tokens are predicted, of prompts and of chats, and what is refused.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/evaluate/token_nll.h"
#include "core/store/record.h"
#include "experiments/data/completion_data.h"
#include "tests/support/errors.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kSameLoss = 1e-5;  // float32, two orders of sums

class Completions : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(folder_ / "model");
    tokenizer_ = load_tokenizer(folder_ / "model");
  }

  std::shared_ptr<const TokenStream> open(const std::string& lines, DataOptions options = {}) const {
    options.files = {folder_.write("data.jsonl", lines).string()};
    return open_completions(options, *tokenizer_, folder_ / "model", test::kTinyTokens);
  }
  std::string refusal(const std::string& lines, const DataOptions& options = {}) const {
    return test::message_of<DataError>([&] { open(lines, options); });
  }
  /// The text of the tokens that are to be predicted, document by document.
  std::vector<std::string> learnt(const TokenStream& stream) const {
    std::vector<std::string> texts;
    for (std::int64_t i = 0; i < stream.documents(); ++i) {
      const std::int64_t begin = stream.document_begin(i), count = stream.document_begin(i + 1) - begin;
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(count)), kept;
      std::vector<std::uint8_t> scored(tokens.size());
      stream.read(begin, tokens);
      stream.read_scored(begin, scored);
      for (std::size_t k = 0; k < tokens.size(); ++k) {
        if (scored[k] == 1) kept.push_back(tokens[k]);
      }
      texts.push_back(tokenizer_->decode(kept, false));
    }
    return texts;
  }
  /// Of a run that trains on the data.
  test::ProgramResult train(const std::string& lines, const std::string& more) const {
    folder_.write("data.jsonl", lines);
    const auto config = folder_.write_config("train.json", R"({"model": {"path": "@/model"}, "results": "@/results",
      "train": {"steps": 1, "batch_rows": 2, "sequence_length": 8, "learning_rate": 0.01, )" +
                                                               more + R"( "data": {"files": ["@/data.jsonl"]}}})");
    return test::run_program({"run", config.string(), "--force", "--quiet", "--json"});
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

constexpr const char* kPairs = R"({"prompt": "ab abc", "completion": " cab ba", "id": 7}
{"prompt": "b", "completion": " abc"}
)";

TEST_F(Completions, OnlyTheyAreLearnt) {
  EXPECT_THAT(learnt(*open(kPairs)), testing::ElementsAre("cab ba", "abc"));
  DataOptions ended;
  ended.eos = true;
  EXPECT_THAT(learnt(*open(kPairs, ended)), testing::ElementsAre("cab ba</s>", "abc</s>"));
  DataOptions one;
  one.max_rows = 1;
  EXPECT_EQ(open(kPairs, one)->documents(), 1);
}

TEST_F(Completions, TheLossIsTheMeanOverTheirTokens) {
  const auto result = train(kPairs, R"("packing": "rows", "loss_on": "completion",)");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const RunRecord record = read_record(result.json()["cells"][0]["record"].get<std::string>());
  const Checkpoint model = load_checkpoint(folder_ / "model");
  const at::NoGradGuard no_grad;
  double sum = 0;
  std::int64_t count = 0;
  for (const auto& [prompt, completion] : {std::pair{"ab abc", " cab ba"}, {"b", " abc"}}) {
    const auto before = tokenizer_->encode(prompt, {.add_bos = true}),
               whole = tokenizer_->encode(std::string(prompt) + completion, {.add_bos = true});
    const at::Tensor ids = at::tensor(std::vector<std::int64_t>(whole.begin(), whole.end()), at::kLong).unsqueeze(0);
    const std::int64_t own = std::ssize(whole) - std::ssize(before);
    sum += token_nll(model.decoder, ids)[0].narrow(0, std::ssize(before) - 1, own).sum().item<double>();
    count += own;
  }
  EXPECT_EQ(record.training.tokens.at(0), count);
  EXPECT_NEAR(record.training.loss.at(0), sum / static_cast<double>(count), kSameLoss);
  EXPECT_EQ(
      train(kPairs, R"("packing": "packed", "loss_on": "completion", "document_boundaries": "masked",)").exit_code, 0);
}

TEST_F(Completions, ChatsAreLearntAsTheAssistantSaysThem) {
  folder_.write("model/chat_template.jinja", "<|im_start|>{{ role }}<|im_end|>");
  const std::string lines = R"({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"},
    {"role": "assistant", "content": "ab"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "abc"}]})";
  std::string one_line = lines;
  std::erase(one_line, '\n');
  EXPECT_THAT(learnt(*open(one_line)), testing::ElementsAre("ab<|im_end|>abc<|im_end|>"));
}

TEST_F(Completions, MistakesAreNamed) {
  EXPECT_THAT(refusal(R"({"text": "ab"})"),
              HasSubstr("data.jsonl: line 1: expected {\"prompt\": …, \"completion\": …} or {\"messages\": […]}, found "
                        "the fields text"));
  EXPECT_THAT(refusal(R"({"prompt": "a", "completion": ""})"), HasSubstr("line 1: completion: is empty"));
  EXPECT_THAT(refusal(R"({"prompt": 3, "completion": "b"})"), HasSubstr("line 1: prompt: expected a string, found"));
  EXPECT_THAT(refusal(R"({"messages": [], "prompt": "a"})"), HasSubstr("holds messages and a prompt or completion"));
  EXPECT_THAT(refusal(R"({"messages": []})"), HasSubstr("holds no chat template"));
  DataOptions cut;
  cut.length = 2;
  EXPECT_THAT(refusal(kPairs, cut), HasSubstr("line 1: no token of the completion is among the first 2"));
  const auto refused = [&](const std::string& more) {
    const auto result = train(kPairs, more);
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  EXPECT_THAT(refused(R"("loss_on": "answer",)"), HasSubstr("train.loss_on"));
  const auto text = folder_.write_config("text.json", R"({"model": {"path": "@/model"}, "results": "@/results",
    "train": {"loss_on": "completion", "data": {"files": ["@/text.txt"]}}})");
  EXPECT_THAT(test::run_program({"run", text.string()}).err,
              HasSubstr("loss_on = completion reads prompts with completions, or messages, from .jsonl or .json"));
}

}  // namespace
}  // namespace mla
