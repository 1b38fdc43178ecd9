#include "experiments/tasks/scoring.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>

#include "core/evaluate/generate.h"
#include "core/evaluate/token_nll.h"
#include "experiments/data/data_fields.h"

namespace mla {
namespace {

/// Tokens of one forward pass (at least one row).
constexpr std::size_t kBatchTokens = 4096;

/// Indices of rows that go through the model together.
std::vector<std::vector<std::size_t>> plan_batches(const TokenIds& rows) {
  std::map<std::size_t, std::vector<std::size_t>> by_length;
  for (std::size_t i = 0; i < rows.size(); ++i) by_length[rows[i].size()].push_back(i);
  std::vector<std::vector<std::size_t>> batches;
  for (const auto& [length, indices] : by_length) {
    const std::size_t most = std::max<std::size_t>(1, kBatchTokens / length);
    for (std::size_t begin = 0; begin < indices.size(); begin += most) {
      const std::size_t end = std::min(begin + most, indices.size());
      batches.emplace_back(indices.begin() + static_cast<std::ptrdiff_t>(begin),
                           indices.begin() + static_cast<std::ptrdiff_t>(end));
    }
  }
  return batches;
}

std::vector<double> to_vector(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  const double* data = values.const_data_ptr<double>();
  return {data, data + values.numel()};
}

std::vector<std::int64_t> to_ids(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU).contiguous();
  const std::int64_t* data = values.const_data_ptr<std::int64_t>();
  return {data, data + values.numel()};
}

void score_batch(const Decoder& decoder, const ScoreRequest& request, const std::vector<std::size_t>& batch,
                 ScoreResult& result) {
  TokenIds rows;
  for (const std::size_t row : batch) rows.push_back(request.ids[row]);
  const at::Tensor ids = ids_tensor(rows).to(decoder.device());
  const std::int64_t length = ids.size(1), last = std::min(request.last, length);
  const at::Tensor hidden = decoder.hidden_states(ids);
  const at::Tensor nll = target_nll(decoder, hidden.narrow(1, 0, length - 1), ids.narrow(1, 1, length - 1));
  const at::Tensor logits = decoder.logits(hidden.narrow(1, length - last, last));
  const at::Tensor greedy =
      request.greedy_tokens > 0 ? greedy_continue(decoder, ids, request.greedy_tokens) : at::Tensor();
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    result.nll[batch[i]] = to_vector(nll[row]);
    for (std::int64_t k = 0; k < last; ++k) result.last_logits[batch[i]].push_back(to_vector(logits[row][k]));
    if (greedy.defined()) result.greedy[batch[i]] = to_ids(greedy[row]);
  }
}

}  // namespace

ScoreRequest read_score_request(const std::string& path, std::int64_t vocabulary) {
  const auto request = read_data<ScoreRequest>(read_json(path), path, "ids");
  expect_known_ids(request.ids, vocabulary, path);
  for (const auto& [key, value] : {std::pair{"last", request.last}, {"greedy_tokens", request.greedy_tokens}}) {
    if (value < 0) throw DataError(cat(path, ": ", key, " = ", value, ": must be at least 0"));
  }
  return request;
}

ScoreResult score_rows(const Decoder& decoder, const ScoreRequest& request,
                       const std::function<void(std::int64_t)>& progress) {
  const at::NoGradGuard no_grad;
  const std::size_t count = request.ids.size();
  ScoreResult result{std::vector<std::vector<double>>(count), std::vector<std::vector<std::vector<double>>>(count),
                     std::vector<std::vector<std::int64_t>>(count)};
  for (const auto& batch : plan_batches(request.ids)) {
    score_batch(decoder, request, batch, result);
    progress(static_cast<std::int64_t>(batch.size()));
  }
  return result;
}

}  // namespace mla
