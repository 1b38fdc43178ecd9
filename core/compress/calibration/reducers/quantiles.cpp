#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/calibration/reducers/token_mean.h"

namespace mla {
namespace {

/// How each channel is distributed: float64 [shares + 2, width], the smallest value, the quantiles asked for, and the
/// largest. The extremes are those of all tokens; what lies between is read off at most `tokens` of them, spread evenly
/// as those of `samples`, between neighbours by straight lines.
class ChannelQuantiles final : public Reducer {
 public:
  struct Options {
    std::vector<double> shares = {0.01, 0.25, 0.5, 0.75, 0.99};
    std::int64_t tokens = 4096;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("shares", self.shares, "quantiles, ascending, between 0 and 1");
      visit("tokens", self.tokens, "tokens that they are read off at most");
    }
    void validate(const std::string& path) const {
      if (tokens < 1) throw ConfigError(cat(path, ".tokens = ", tokens, ": must be at least 1"));
      for (const double share : shares) {
        if (!(share > 0 && share < 1)) throw ConfigError(cat(path, ".shares: ", share, " is not between 0 and 1"));
      }
      if (!std::is_sorted(shares.begin(), shares.end())) throw ConfigError(cat(path, ".shares: must ascend"));
    }
  };
  explicit ChannelQuantiles(Options options)
      : options_(std::move(options)),
        samples_(Registry<Reducer>::instance().make({{"name", "samples"}, {"tokens", options_.tokens}}, "quantiles")) {}

  void add(const std::vector<at::Tensor>& batch) override {
    const at::Tensor rows = token_rows(batch.front());
    const auto [least, first] = rows.min(0);
    const auto [most, last] = rows.max(0);
    least_ = least_.defined() ? at::minimum(least_, least) : least;
    most_ = most_.defined() ? at::maximum(most_, most) : most;
    samples_->add(batch);
  }

  at::Tensor result(std::int64_t tokens) const override {
    std::vector<at::Tensor> rows{least_.unsqueeze(0)};
    if (!options_.shares.empty()) {
      const at::Tensor samples = samples_->result(tokens);
      rows.push_back(at::quantile(samples, at::tensor(options_.shares, samples.options()), 0));
    }
    rows.push_back(most_.unsqueeze(0));
    return at::cat(rows);
  }

 private:
  Options options_;
  std::unique_ptr<Reducer> samples_;
  at::Tensor least_, most_;
};

const Registration<Reducer, ChannelQuantiles> kQuantiles("quantiles",
                                                         "smallest and largest value of each channel, and quantiles");

}  // namespace
}  // namespace mla
