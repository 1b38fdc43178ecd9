#include "core/compress/refit/layer_fit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numbers>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/random.h"
#include "core/ops/matrix_product.h"

namespace mla {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.95, kEpsilon = 1e-8;
constexpr std::int64_t kLongestWarmUp = 10, kWarmUpShare = 10;
/// Rows of one pass without gradients.
constexpr std::size_t kJudgedTogether = 16;
constexpr const char* kOrderStream = "fit_layers.order";

/// A calibration row before one layer's attention, and what is wanted behind it: [length, hidden].
struct FitRow {
  at::Tensor input, wanted;
  double energy = 0;  ///< squared size of what is wanted, without the positions left out
};
using FitRows = std::vector<const FitRow*>;

/// In one order, however many threads there are. x [rows, length, hidden], of which the first positions are left out.
double sum_of_squares(const at::Tensor& x, std::int64_t skipped) {
  const at::Tensor behind = x.narrow(1, skipped, x.size(1) - skipped).to(at::kDouble);
  const at::Tensor by_token = behind.square().sum(-1).to(at::kCPU).contiguous();
  const double* values = by_token.const_data_ptr<double>();
  double sum = 0;
  for (std::int64_t i = 0; i < by_token.numel(); ++i) sum += values[i];
  return sum;
}

/// Rows of equal length, which go through a layer together.
struct FitBatch {
  at::Tensor input, wanted;  ///< [rows, length, hidden]
};

std::vector<FitBatch> by_length(const FitRows& rows) {
  std::map<std::int64_t, std::pair<std::vector<at::Tensor>, std::vector<at::Tensor>>> groups;
  for (const FitRow* row : rows) {
    auto& [inputs, wanted] = groups[row->input.size(0)];
    inputs.push_back(row->input);
    wanted.push_back(row->wanted);
  }
  std::vector<FitBatch> batches;
  for (const auto& [length, group] : groups) batches.push_back({at::stack(group.first), at::stack(group.second)});
  return batches;
}

double energy_of(const FitRows& rows) {
  double sum = 0;
  for (const FitRow* row : rows) sum += row->energy;
  return sum;
}

at::Tensor output_of(const Attention& attention, const Decoder& decoder, const at::Tensor& input) {
  ForwardContext context = decoder.context(input.size(1));
  return attention.forward(input, context);
}

/// Relative squared error on these rows.
double error_on(const FitRows& rows, const Attention& attention, const Decoder& decoder, std::int64_t skipped) {
  const at::NoGradGuard off;
  double sum = 0;
  for (std::size_t begin = 0; begin < rows.size(); begin += kJudgedTogether) {
    const std::size_t end = std::min(rows.size(), begin + kJudgedTogether);
    for (const FitBatch& batch : by_length({rows.begin() + std::ptrdiff_t(begin), rows.begin() + std::ptrdiff_t(end)}))
      sum += sum_of_squares(output_of(attention, decoder, batch.input) - batch.wanted, skipped);
  }
  return sum / energy_of(rows);
}

/// A layer's attention while it is trained: a copy, in the type that is computed in, with Adam's moments.
class TrainedAttention {
 public:
  TrainedAttention(const Attention& attention, at::ScalarType compute) : attention_(attention.clone()) {
    attention_->visit_parameters([&](const std::string&, at::Tensor& tensor) {
      held_.push_back(tensor.scalar_type());
      tensor = tensor.detach().to(compute).contiguous().requires_grad_(true);
      parameters_.push_back(tensor);
      means_.push_back(at::zeros_like(tensor.detach()));
      mean_squares_.push_back(at::zeros_like(tensor.detach()));
    });
    step_ = at::zeros({}, parameters_.front().options().dtype(at::kFloat).requires_grad(false));
  }

  /// One update by the mean of these rows.
  void learn(const FitRows& rows, const Decoder& decoder, std::int64_t skipped, double rate) {
    const double scale = 2 / energy_of(rows);
    for (const FitBatch& batch : by_length(rows)) {
      const at::AutoGradMode record(true);
      const at::Tensor output = output_of(*attention_, decoder, batch.input);
      at::Tensor gradient;
      {
        const at::NoGradGuard off;
        gradient = (output - batch.wanted).mul_(scale);
        gradient.narrow(1, 0, skipped).zero_();
      }
      output.backward(gradient);
    }
    update(rate);
  }

  /// The layer, held as before.
  std::unique_ptr<Attention> finish() {
    std::size_t i = 0;
    attention_->visit_parameters([&](const std::string&, at::Tensor& tensor) {
      tensor.mutable_grad().reset();
      tensor = tensor.detach().to(held_[i++]);
    });
    return std::move(attention_);
  }

 private:
  void update(double rate) {
    const at::NoGradGuard off;
    std::vector<at::Tensor> parameters, gradients, means, mean_squares;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      at::Tensor& gradient = parameters_[i].mutable_grad();
      if (!gradient.defined()) continue;  // a map that takes no part in this form of the product
      parameters.push_back(parameters_[i]);
      gradients.push_back(gradient.contiguous());
      means.push_back(means_[i]);
      mean_squares.push_back(mean_squares_[i]);
      gradient.reset();
    }
    step_.add_(1);
    const std::vector<at::Tensor> steps(parameters.size(), step_);
    at::_fused_adamw_(parameters, gradients, means, mean_squares, {}, steps, rate, kBeta1, kBeta2,
                      /*weight_decay=*/0.0, kEpsilon, /*amsgrad=*/false, /*maximize=*/false);
  }

  std::unique_ptr<Attention> attention_;
  std::vector<at::ScalarType> held_;
  std::vector<at::Tensor> parameters_, means_, mean_squares_;
  at::Tensor step_;
};

/// What the learning rate is multiplied by.
double rate_factor(std::int64_t step, std::int64_t steps) {
  const std::int64_t warm_up = std::min(kLongestWarmUp, steps / kWarmUpShare);
  if (step < warm_up) return static_cast<double>(step + 1) / static_cast<double>(warm_up);
  const double done = static_cast<double>(step - warm_up) / static_cast<double>(steps - warm_up);
  return 0.5 * (1 + std::cos(std::numbers::pi * done));
}

/// All rows in random order, then all again in another one.
class RowOrder {
 public:
  RowOrder(FitRows rows, std::uint64_t seed)
      : rows_(std::move(rows)), next_(rows_.size()), random_(seed, kOrderStream) {}

  FitRows take(std::int64_t count) {
    FitRows taken;
    for (std::int64_t i = 0; i < count; ++i) {
      if (next_ == rows_.size()) {
        random_.shuffle(rows_);
        next_ = 0;
      }
      taken.push_back(rows_[next_++]);
    }
    return taken;
  }

 private:
  FitRows rows_;
  std::size_t next_;
  RandomStream random_;
};

/// The rows of one layer: what is fitted, and what is judged by.
struct LayerRows {
  FitRows fitted, judged;
  bool held_out = false;
};

/// Held-out rows lie evenly among the others.
LayerRows divide(const std::vector<FitRow>& rows, double share) {
  LayerRows all;
  const auto total = static_cast<double>(rows.size());
  std::int64_t wanted = std::llround(share * total);
  if (share > 0 && wanted == 0) wanted = 1;
  wanted = std::min(wanted, std::ssize(rows) - 1);
  std::int64_t taken = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool held =
        static_cast<double>(i + 1) * static_cast<double>(wanted) >= static_cast<double>(taken + 1) * total;
    if (held) ++taken;
    (held ? all.judged : all.fitted).push_back(&rows[i]);
  }
  all.held_out = taken > 0;
  if (!all.held_out) all.judged = all.fitted;
  return all;
}

std::int64_t tokens_of(const FitRows& rows) {
  std::int64_t tokens = 0;
  for (const FitRow* row : rows) tokens += row->input.size(0);
  return tokens;
}

/// Rows too short to be fitted on are left out, and those of which nothing is wanted.
std::vector<FitRow> split_rows(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& wanted,
                               std::int64_t skipped) {
  std::vector<FitRow> rows;
  for (std::size_t batch = 0; batch < inputs.size(); ++batch) {
    if (inputs[batch].size(1) <= skipped) continue;
    for (std::int64_t i = 0; i < inputs[batch].size(0); ++i) {
      FitRow row{inputs[batch][i], wanted[batch][i], 0};
      row.energy = sum_of_squares(row.wanted.unsqueeze(0), skipped);
      if (row.energy > 0) rows.push_back(std::move(row));
    }
  }
  return rows;
}

/// Null where it is not better than what was found.
std::unique_ptr<Attention> fitted(const Attention& found, const Decoder& decoder, const LayerRows& rows,
                                  const LayerFitOptions& options, LayerFitReport& report) {
  const std::int64_t skipped = options.skip_positions;
  report.judged_on = rows.held_out ? "held_out" : "fitted";
  report.rows = std::ssize(rows.judged);
  report.before = report.after = error_on(rows.judged, found, decoder, skipped);
  if (report.before == 0) return nullptr;
  TrainedAttention trained(found, decoder.compute_dtype);
  RowOrder order(rows.fitted, options.seed);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    check_interrupt();
    const FitRows taken = order.take(options.batch_rows);
    trained.learn(taken, decoder, skipped, options.learning_rate * rate_factor(step, options.steps));
    report.tokens += tokens_of(taken);
  }
  report.unique_tokens = std::min(report.tokens, tokens_of(rows.fitted));
  std::unique_ptr<Attention> attention = trained.finish();
  const double after = error_on(rows.judged, *attention, decoder, skipped);
  report.kept = after < report.before;
  if (!report.kept) return nullptr;
  report.after = after;
  return attention;
}

}  // namespace

void LayerFitOptions::validate(const std::string& path) const {
  check_at_least_one(path + ".steps", steps);
  check_at_least_one(path + ".batch_rows", batch_rows);
  if (!(std::isfinite(learning_rate) && learning_rate > 0))
    throw ConfigError(cat(path, ".learning_rate = ", learning_rate, ": must be more than 0"));
  if (skip_positions < 0) throw ConfigError(cat(path, ".skip_positions = ", skip_positions, ": must not be negative"));
  if (!(held_out >= 0 && held_out < 1))
    throw ConfigError(cat(path, ".held_out = ", held_out, ": must be from 0 to less than 1"));
  if (rows < 0) throw ConfigError(cat(path, ".rows = ", rows, ": must not be negative"));
}

LayerFit::LayerFit(Decoder& decoder, const Decoder& source, const TokenRowList& rows, LayerFitOptions options)
    : decoder_(decoder), theirs_(source, first_rows(rows, options.rows), {}), options_(options) {
  expects(decoder.compute_dtype == at::kFloat || decoder.compute_dtype == at::kDouble,
          "layers are fitted in float32 or float64");
  if (options_.inputs == FitInputs::kConverted)
    ours_.emplace(decoder, first_rows(rows, options_.rows), CalibrationOptions{});
}

LayerFitReport LayerFit::next() {
  const ProductsScope scope(decoder_.products);
  const auto layer = static_cast<std::size_t>(theirs_.layer());
  std::vector<at::Tensor> inputs, wanted;
  theirs_.advance({Tap::kAttentionInput, Tap::kAttentionOutput}, [&](std::size_t, Tap tap, const at::Tensor& tensor) {
    (tap == Tap::kAttentionInput ? inputs : wanted).push_back(tensor);
  });
  if (ours_) ours_->observe(Tap::kAttentionInput, [&](std::size_t batch, const at::Tensor& x) { inputs[batch] = x; });
  const std::vector<FitRow> rows = split_rows(inputs, wanted, options_.skip_positions);
  LayerFitReport report;
  const Attention& found = *decoder_.layers[layer].attention;
  if (!rows.empty() && found.spec()->reads().empty()) {
    std::unique_ptr<Attention> better = fitted(found, decoder_, divide(rows, options_.held_out), options_, report);
    if (better) decoder_.replace_attention(layer, std::move(better));
  }
  if (ours_) ours_->advance();
  return report;
}

}  // namespace mla
